//! Frames from sealer to opener, through the public API.

mod attacks;
mod delivery;
mod frames;
mod world;
