//! firn-ingest
