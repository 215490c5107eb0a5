//! firn-compactor
