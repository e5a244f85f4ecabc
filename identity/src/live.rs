//! Sessions and attachments in force.

/// What ties a connection to its session. Dropping it detaches.
#[derive(Debug)]
pub struct Attachment;
/// What others learn once the answer has been handed over.
#[derive(Debug)]
pub struct HeldEvents;
