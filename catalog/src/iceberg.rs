//! iceberg
