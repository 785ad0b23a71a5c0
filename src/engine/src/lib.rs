//! The server's side of the workers: supervision, queues, generation.
