//! Causes that have a code: a name that a log, a metric and the documentation share, and that never changes.

/// Declares an enum whose variants each have a code, and can all be listed. So no cause is without a code, and none is
/// missing where all are counted or explained.
#[macro_export]
macro_rules! codes {
    ($(#[$attr:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)+ }) => {
        $(#[$attr])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// All of them, each at the place that its number says.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// What logs, metrics and `docs/reasons.md` call it.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.code())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::UnknownCode;

            fn from_str(code: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|cause| cause.code() == code).ok_or($crate::UnknownCode)
            }
        }
    };
}

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no cause has this code")]
pub struct UnknownCode;

#[cfg(test)]
mod tests {
    use super::UnknownCode;

    codes! {
        /// Of this test.
        pub enum Cause {
            /// The first.
            First = "test-first",
            /// The second.
            Second = "test-second",
        }
    }

    #[test]
    fn each_cause_is_found_by_its_code_and_stands_at_its_number() {
        for (number, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!((cause.code().parse(), *cause as usize), (Ok(*cause), number));
        }
        assert_eq!((Cause::Second.to_string().as_str(), "test".parse::<Cause>()), ("test-second", Err(UnknownCode)));
    }
}
