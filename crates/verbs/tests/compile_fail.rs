//! The mistakes that the types make impossible: each of these programs must not compile, for the reason beside it.

#[test]
fn what_goes_wrong_with_verbs_elsewhere_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
