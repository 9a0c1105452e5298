//! Views before the present one: for a while after Director duty has moved, the new Director asks the
//! former one about flows it does not know, and that one decides. A claim is therefore not out of sight because
//! its bucket has moved; by the end the Owner's record has taken its place.

use std::sync::Arc;

use crate::clock::NowMs;
use crate::cluster::view::View;

/// Views remembered: duty moves at most this often while a cluster starts or is drained node by node.
const VIEWS: usize = 6;

/// See the file's first lines.
#[derive(Debug)]
pub(super) struct FormerView {
    /// Of the same nodes, the oldest first.
    views: Vec<Arc<View>>,
    /// When they count no longer.
    until: NowMs,
}

impl FormerView {
    /// `old` gives way to `new`. While an earlier change of duty among the same nodes is under way the views
    /// before that one count first: their Directors were asked meanwhile, so they have the claims. Where that was
    /// this node itself, later ones count: others may have come to them another way and asked nobody.
    pub(super) fn after(
        before: Option<Self>,
        old: &Arc<View>,
        new: &View,
        asked_ms: u64,
        now: NowMs,
    ) -> Option<Self> {
        if old.members == new.members {
            return before;
        }
        let mut views = match before {
            Some(before) if before.counts(now) && same_nodes(&before.views[0], new) => before.views,
            _ => Vec::with_capacity(VIEWS),
        };
        if views.len() == VIEWS {
            views.remove(1);
        }
        views.push(old.clone());
        Some(Self { views, until: now.plus(asked_ms) })
    }

    fn counts(&self, now: NowMs) -> bool {
        now < self.until
    }

    /// The views, until their time is over.
    pub(super) fn at(&self, now: NowMs) -> &[Arc<View>] {
        if self.counts(now) { &self.views } else { &[] }
    }
}

fn same_nodes(one: &View, other: &View) -> bool {
    one.members.iter().map(|member| member.node).eq(other.members.iter().map(|member| member.node))
}
