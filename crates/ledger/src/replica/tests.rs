//! Rules, views and tampering.
