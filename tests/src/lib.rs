//! The harness of the scenario tests: real clusters, real drivers, scripted peers.
