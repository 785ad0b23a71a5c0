//! Every bound of the HTTP side, each with the reason for its number.

use std::time::Duration;

/// What a client may take of the server before it is cut off.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body, in bytes. 32 MiB holds a long conversation and several photographs
    /// as base64; a board with 4 GB can still have a few of them in flight.
    pub body_bytes_max: usize,
    /// Largest bodies that may be in memory at a time, over all connections; more of them, or more
    /// small ones, wait. Four of 32 MiB, twice that while they are read, leave a board with 4 GB
    /// its model.
    pub full_bodies_max: usize,
    /// Size from which a body is parsed on a thread of its own, in bytes. 256 KiB take a
    /// millisecond on a slow core: longer would hold up the tokens of everybody else.
    pub body_bytes_inline_max: usize,
    /// Bytes of an over-long body that are read and thrown away before the refusal is sent. A
    /// client that is still sending when the socket closes sees a reset instead of the 413.
    pub body_bytes_discarded_max: usize,
    /// Time a client has to send its whole body: 32 MiB in two minutes is 280 KB/s, slower than
    /// any network on which such a body makes sense.
    pub body_read_timeout: Duration,
    /// Time a client has to send its request head, counted from the connection or from the end of
    /// the answer before: it is also how long an idle connection is kept. Half a minute outlives
    /// the idle time of the usual client pools, so that they close first, and starves slow
    /// senders of the descriptors they hold.
    pub header_read_timeout: Duration,
    /// Largest request head, in bytes. Cookies and a long bearer token fit many times.
    pub header_bytes_max: usize,
    /// Open connections; more wait in the kernel's backlog. Half of the usual limit of 2048
    /// descriptors, the rest is for workers and files.
    pub connections_max: usize,
    /// Silence after which a stream sends a comment, and the longest a stream's head waits for
    /// the first token. Three seconds: a client that is gone is noticed by the first comment it
    /// refuses, and proxies with short timeouts keep the connection.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            full_bodies_max: 4,
            body_bytes_inline_max: 256 << 10,
            body_bytes_discarded_max: 64 << 20,
            body_read_timeout: Duration::from_secs(120),
            header_read_timeout: Duration::from_secs(30),
            header_bytes_max: 64 << 10,
            connections_max: 1024,
            heartbeat: Duration::from_secs(3),
        }
    }
}
