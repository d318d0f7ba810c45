//! MQTT frame splitting, rewriting and proxy state.
