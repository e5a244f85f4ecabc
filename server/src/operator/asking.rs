//! The other side of the operators' door: one line of JSON to a running server, and one line back.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Answered, Operation, socket_path};

/// Asks a running server.
pub struct Asking(BufReader<UnixStream>);

impl Asking {
    /// Goes to the door of the server that holds this data directory.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(data: &Path) -> std::io::Result<Asking> {
        Ok(Asking(BufReader::new(UnixStream::connect(socket_path(data)).await?)))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// One sentence for people, where the server went away.
    pub async fn ask(&mut self, operation: &Operation) -> Result<Answered, String> {
        let gone = |error: &dyn std::fmt::Display| format!("the server went away: {error}");
        let mut text = serde_json::to_vec(operation).map_err(|error| error.to_string())?;
        text.push(b'\n');
        self.0.get_mut().write_all(&text).await.map_err(|error| gone(&error))?;
        let mut line = String::new();
        self.0.read_line(&mut line).await.map_err(|error| gone(&error))?;
        serde_json::from_str(&line).map_err(|_| gone(&"it sent no answer"))
    }
}
