//! The view before the present one: for a while after Director duty has moved, the new Director asks the
//! former one about flows it does not know, and that one decides. A claim is therefore not out of sight because
//! its bucket has moved; by the end the Owner's record has taken its place.

use std::sync::Arc;

use crate::clock::NowMs;
use crate::cluster::view::View;
use crate::limits::FORMER_ASKED_MS;

/// See the file's first lines.
#[derive(Debug)]
pub(super) struct FormerView {
    view: Arc<View>,
    left: NowMs,
}

impl FormerView {
    /// `old` gives way to `new`. While an earlier change of duty among the same nodes is under way the view
    /// before that one counts: its Directors were asked meanwhile, so they have the claims.
    pub(super) fn after(before: Option<Self>, old: &Arc<View>, new: &View, now: NowMs) -> Option<Self> {
        if old.members == new.members {
            return before;
        }
        let view = match before {
            Some(before) if before.at(now).is_some() && same_nodes(&before.view, new) => before.view,
            _ => old.clone(),
        };
        Some(Self { view, left: now })
    }

    /// The view, until its time is over.
    pub(super) fn at(&self, now: NowMs) -> Option<&View> {
        (now.since(self.left) < FORMER_ASKED_MS).then_some(&self.view)
    }
}

fn same_nodes(one: &View, other: &View) -> bool {
    one.members.iter().map(|member| member.node).eq(other.members.iter().map(|member| member.node))
}
