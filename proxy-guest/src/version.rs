//! What this build is: its version, and whether the simulator is in it. A build with it is for tests and never released.

/// As `--version`, the log of every start, `/metrics` and `evidence` say it.
#[cfg(not(feature = "simulator"))]
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
#[cfg(feature = "simulator")]
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " with the simulator, for tests only");

#[cfg(test)]
mod tests {
    use super::VERSION;
    use crate::cli::Cli;
    use clap::CommandFactory;

    #[test]
    fn a_build_says_whether_the_simulator_is_in_it() {
        assert_eq!(VERSION.contains("simulator"), cfg!(feature = "simulator"));
        assert!(Cli::command().render_version().contains(VERSION));
    }
}
