//! What is printed for a broker.

/// A file of a broker.
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// What stands in it.
    pub text: String,
}
