//! Benchmarks of Hawser beside its peers: the same PostgreSQL, the same settings, the same clients, in turns.
//!
//! `workload` says what clients do, `peer` starts who stands between them and the `cluster` (`bare` is one that only
//! passes bytes on), `pgbench` drives one run, `meter` reads what it cost, `series` takes the turns, `report` and `plot`
//! tell the outcome. The figures to trust are CPU time and system calls per transaction of the pooler process:
//! throughput on a machine that also runs the clients and PostgreSQL says little.

pub mod bare;
pub mod cluster;
pub mod meter;
pub mod peer;
pub mod pgbench;
pub mod plot;
pub mod report;
pub mod series;
pub mod workload;
