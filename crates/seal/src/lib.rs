//! The data plane envelope: SFrame under group keys, signed by its sender.
