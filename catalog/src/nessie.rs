//! nessie
