//! firn-alerts
