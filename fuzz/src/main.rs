//! The program that `fuzz/run` builds: libFuzzer around one of the targets. Built without the fuzzer, which
//! works with plain `cargo run`, it gives a target the files that it is told.
#![cfg_attr(fuzzing, no_main)]
// The macro below defines what libFuzzer, a C++ library, calls.
#![cfg_attr(fuzzing, allow(unsafe_code))]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: std::sync::LazyLock<&fuzz::Target> = std::sync::LazyLock::new(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name}: no such target"))
    });
    TARGET.run(bytes);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next().as_deref().and_then(fuzz::target) else {
        eprintln!("Usage: cargo run -p fuzz -- TARGET FILE...\n\nTargets:");
        for fuzz::Target { name, about, .. } in fuzz::TARGETS {
            eprintln!("  {name:<12} {about}");
        }
        return 2.into();
    };
    for file in arguments {
        match std::fs::read(&file) {
            Ok(bytes) => target.run(&bytes),
            Err(error) => {
                eprintln!("can't read {file}: {error}");
                return 1.into();
            }
        }
        println!("{file}: all right");
    }
    0.into()
}
