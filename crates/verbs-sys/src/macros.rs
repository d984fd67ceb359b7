//! How structures and enumerations are declared, so that each one's layout can be compared with the header's.
//!
//! For tests, each declaration leaves a constant of the type's own name behind. One that `layout` doesn't
//! look at is dead code, which the compiler reports: nothing is forgotten.

/// A structure or union of the header: `c_type! { "struct ibv_sge": pub struct ibv_sge { … } }`.
///
/// The text is what C calls the type. A field that has no name in C says what C puts directly into the
/// structure instead: `pub immediate: ibv_wc_immediate as { imm_data, invalidated_rkey }`.
macro_rules! c_type {
    ($c:literal: $(#[$attribute:meta])* pub $kind:tt $name:ident { $(
        $(#[$field_attribute:meta])* pub $field:ident: $type:ty $(as { $($member:ident),+ })?,
    )+ }) => {
        $(#[$attribute])*
        #[repr(C)]
        pub $kind $name { $( $(#[$field_attribute])* pub $field: $type, )+ }

        #[cfg(test)]
        #[allow(non_upper_case_globals, reason = "the type's name, in the namespace of values")]
        pub(crate) const $name: $crate::layout::Structure = $crate::layout::Structure {
            name: stringify!($name),
            c_type: $c,
            size: size_of::<$name>(),
            align: align_of::<$name>(),
            fields: &[ $( c_type!(@field $name $field $($($member)+)?) ),+ ],
            types: &[ $( (stringify!($field), stringify!($type)) ),+ ],
        };
    };
    (@field $name:ident $field:ident) => {
        &[c_type!(@entry $name (stringify!($field)) $field)]
    };
    (@field $name:ident $field:ident $($member:ident)+) => {
        &[ $( c_type!(@entry $name (stringify!($member)) $field.$member) ),+ ]
    };
    (@entry $name:ident ($c:expr) $($path:ident).+) => {
        $crate::layout::Field {
            name: $c,
            offset: core::mem::offset_of!($name, $($path).+),
            // SAFETY: nobody calls it, only its type is looked at.
            size: $crate::layout::size_of_target(|at: *const $name| unsafe { &raw const (*at).$($path).+ }),
        }
    };
}

/// A place for a function. `layout` compares its arguments and its result with the header's.
macro_rules! op {
    (($($type:ty),* $(,)?) $(-> $result:ty)?) => { Option<unsafe extern "C" fn($($type),*) $(-> $result)?> };
}

/// An enumeration of the header, as a type for its values and constants: `c_enum! { enum ibv_mtu: c_uint { … } }`.
/// With `unnamed` instead of `enum` the constants are C's and the type's name is ours.
macro_rules! c_enum {
    ($(#[$attribute:meta])* enum $name:ident: $type:ty { $($constants:tt)+ }) => {
        c_enum! { @ (Some(concat!("enum ", stringify!($name)))) $(#[$attribute])* $name: $type { $($constants)+ } }
    };
    ($(#[$attribute:meta])* unnamed $name:ident: $type:ty { $($constants:tt)+ }) => {
        c_enum! { @ (None) $(#[$attribute])* $name: $type { $($constants)+ } }
    };
    (@ ($c:expr) $(#[$attribute:meta])* $name:ident: $type:ty { $(
        $(#[$constant_attribute:meta])* $constant:ident = $value:expr,
    )+ }) => {
        $(#[$attribute])*
        pub type $name = $type;

        $( $(#[$constant_attribute])* pub const $constant: $name = $value; )+

        #[cfg(test)]
        #[allow(non_upper_case_globals, reason = "the type's name, in the namespace of values")]
        pub(crate) const $name: $crate::layout::Enumeration = $crate::layout::Enumeration {
            name: stringify!($name),
            c_type: $c,
            size: size_of::<$name>(),
            constants: &[ $( (stringify!($constant), $constant as i64) ),+ ],
        };
    };
}

/// `Default` for structures that C programs fill with zeroes before they use them.
macro_rules! zeroed_default {
    ($($name:ident),+ $(,)?) => { $(
        impl Default for $name {
            /// All zero, as C programs begin with.
            fn default() -> Self {
                // SAFETY: all of its fields are numbers, raw pointers, and structures and unions of such, for
                // which zero is valid.
                unsafe { core::mem::zeroed() }
            }
        }
    )+ };
}
