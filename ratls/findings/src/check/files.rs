//! Checks of pieces of evidence that come in files: does somebody sign each, and does anything rest on it?

use super::family::check_family;

check_family! {
    /// A check of what came in files (`F_…`).
    FilesCheck {
        Unsigned = "F_UNSIGNED", Both(Nothing), {
            subject: "files",
            wanted: "a piece that somebody signed, or that a signed one confirms",
            help: "anybody can write what nobody signed: give the quote with its signature and values, a document, a report, or a \
                certificate of the key",
        }
        Unused = "F_UNUSED", Appraise(Nothing), {
            subject: "files",
            wanted: "a piece that goes with the others",
            help: "nothing rests on it: it is of another machine, or what it goes with was not given; leave it out, or give that too",
        }
    }
}
