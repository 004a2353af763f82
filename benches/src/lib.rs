//! Benchmarks of Hawser beside its peers.
