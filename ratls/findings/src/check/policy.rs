//! Checks of the connection, of the guest's statement and of what the policy demands of the result.

use super::family::check_family;

check_family! {
    /// A check against the policy as a whole (`P_…`, `C_…`, `S_…`, `X_…`).
    PolicyCheck {
        Profile = "P_PROFILE", Appraise(Nothing), {
            subject: "profile",
            wanted: "a profile that the policy accepts",
            help: "the guest is attested in another way than the policy accepts",
        }
        Config = "P_CONFIG", Appraise(Nothing), {
            subject: "config",
            wanted: "a configuration that the policy names",
            help: "`evident-proxy check-config` prints the digest of a configuration; a bundle carries the statement",
        }
        Name = "P_NAME", Appraise(Nothing), {
            subject: "names",
            wanted: "the names of the policy",
            help: "the guest serves something else than this policy is for; its configuration lists the names that it serves",
        }
        Upstream = "P_UPSTREAM", Appraise(Nothing), {
            subject: "upstream_scope",
            wanted: "an upstream inside the guest",
            help: "the proxy forwards to another machine without protection; only upstream_scope = \"plaintext leaves the \
                   guest\" in [guest] accepts that",
        }
        Level = "P_LEVEL", Appraise(Nothing), {
            subject: "level",
            wanted: "the level that the policy demands, under the root that it names",
            help: "give the policy the files or digests that raise this component, or demand a level that the platform can reach",
        }
        Contradiction = "X_CONTRADICT", Appraise(Nothing), {
            subject: "records",
            wanted: "records that agree",
            help: "one of them was forged, or belongs to another guest: treat it as an attack",
        }
        NoPolicy = "P_NONE", Appraise(Nothing), {
            subject: "policy",
            wanted: "the policy of whoever relies on this guest",
            help: "give a policy with --policy; without one nothing is compared with what you expect",
        }
        Channel = "C_CHANNEL", Appraise(Nothing), {
            subject: "channel",
            wanted: "evidence of this connection",
            help: "this proves what was signed, not who is on the other end of a connection",
        }
        Simulated = "S_SIMULATED", Appraise(AmdSp), {
            subject: "root",
            wanted: "AMD's root",
            help: "SIMULATED, PROVES NOTHING: for trying things out. Remove [roots] simulator from the policy of a real guest",
        }
    }
}
