//! In a program of its own: other tests' descriptors would be counted.

/// How many descriptors this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the system tells").count()
}

#[test]
fn seeds_leave_no_descriptor_behind() {
    // What is made once, and kept.
    session_simulator::run(0).expect("it holds");
    let before = descriptors();
    for seed in 1..30 {
        session_simulator::run(seed).expect("it holds");
    }
    assert_eq!(descriptors(), before);
}
