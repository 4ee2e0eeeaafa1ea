//! The trust table of one result: as it is, as it would be if the evidence had been asked for now, and, where
//! the policy asks for it, in the relaxed view.

use super::levels::{Inputs, Levels, View, judge};
use verify::Channel;

#[derive(Debug)]
pub(super) struct Tables {
    pub(super) now: Levels,
    pub(super) if_fresh: Levels,
    pub(super) relaxed: Option<Levels>,
}

impl Tables {
    /// `channel` tells whether the evidence can be fresh at all: of a file only the second table says anything, and the relaxed
    /// view is made of that one.
    pub(super) fn of(inputs: &Inputs, view: View, channel: Channel) -> Tables {
        let fresh = inputs.if_fresh();
        let relaxed = if channel == Channel::None { &fresh } else { inputs };
        Tables {
            now: judge(inputs, View::Strict),
            if_fresh: judge(&fresh, View::Strict),
            relaxed: (view == View::Relaxed).then(|| judge(relaxed, View::Relaxed)),
        }
    }

    /// The table that a policy's demands are about. A file is never fresh, so there they are about what it would show if it were.
    pub(super) fn demanded(&self, channel: Channel) -> &Levels {
        self.relaxed.as_ref().unwrap_or(self.telling(channel))
    }

    pub(super) fn telling(&self, channel: Channel) -> &Levels {
        if channel == Channel::None { &self.if_fresh } else { &self.now }
    }
}
