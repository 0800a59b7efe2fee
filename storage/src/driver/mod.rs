//! How a pool keeps its volumes: one driver a file.
