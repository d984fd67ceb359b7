//! Makes the version script of the library from `symbols.txt`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

/// The version nodes, oldest first; each inherits from the one before it, but for the private one.
fn version_script(symbols: &[[&str; 3]]) -> String {
    let mut nodes: Vec<&str> = Vec::new();
    for [node, ..] in symbols {
        if nodes.last() != Some(node) {
            assert!(!nodes.contains(node), "symbols.txt: the lines of {node} must stand together");
            nodes.push(node);
        }
    }
    let (mut script, mut before) = (String::new(), "");
    for node in nodes {
        script.push_str(node);
        script.push_str(" {\n    global:\n");
        for [_, name, _] in symbols.iter().filter(|[of, ..]| *of == node) {
            let _ = writeln!(script, "        {name};");
        }
        if node.contains("PRIVATE") {
            script.push_str("};\n");
        } else {
            let _ = writeln!(script, "}} {before};");
            before = node;
        }
    }
    script
}

fn main() {
    println!("cargo:rerun-if-changed=symbols.txt");
    println!("cargo:rerun-if-changed=build.rs");
    let text = fs::read_to_string("symbols.txt").expect("symbols.txt is there");
    let symbols: Vec<[&str; 3]> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.try_into().unwrap_or_else(|_| panic!("symbols.txt: {line:?} is not NODE NAME STATE"))
        })
        .collect();
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let script = Path::new(&out).join("versions.map");
    fs::write(&script, version_script(&symbols)).expect("the output directory can be written");
    println!("cargo:rustc-cdylib-link-arg=-Wl,--version-script={}", script.display());
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,librdmacm.so.1");
}
