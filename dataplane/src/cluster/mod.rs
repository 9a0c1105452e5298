//! Who is a member, who directs which flow.

pub mod director;
pub mod view;
