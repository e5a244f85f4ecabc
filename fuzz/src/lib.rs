//! What the targets share with the laws of the gate: its way in with a scripted core, and what must hold of a connection.

#[path = "../../protocols/tests/scripted/mod.rs"]
pub mod scripted;
#[path = "../../protocols/tests/scripted/tried.rs"]
pub mod tried;
