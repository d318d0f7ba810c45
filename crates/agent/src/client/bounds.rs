//! How long the end of a connection may take, and how many bytes it holds.

use std::time::Duration;

/// How long the rest of the bytes may take to go out once the connection is over.
pub const DRAIN: Duration = Duration::from_secs(2);
/// How long a connection that another one takes over may take until what its client has sent has gone out.
pub const TAKE_OVER: Duration = Duration::from_secs(10);
/// Bytes that are read at a time.
pub(super) const CHUNK: usize = 16 << 10;
/// As many bytes wait for a side before nothing more is taken from the other.
pub(super) const BUFFER: usize = 4 * CHUNK;
