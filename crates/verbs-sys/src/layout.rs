//! Tests: everything that is declared here, as the C compiler sees it in `<infiniband/verbs.h>`.

use core::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

#[cfg(feature = "load")]
use crate::library;
use crate::{
    address_handle, completion, device, event, extended, gate, gid, memory, port, queue_pair,
    shared_receive_queue, work_request,
};

/// A structure or union.
pub(crate) struct Structure {
    pub(crate) name: &'static str,
    /// What C calls it.
    pub(crate) c_type: &'static str,
    pub(crate) size: usize,
    pub(crate) align: usize,
    /// Its fields; in a group, those that C puts directly into the structure.
    pub(crate) fields: &'static [&'static [Field]],
    /// Each field with its type, as Rust writes it.
    #[cfg_attr(not(feature = "load"), allow(dead_code, reason = "read for functions only"))]
    pub(crate) types: &'static [(&'static str, &'static str)],
}

/// A field, by its name in C.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

/// An enumeration.
pub(crate) struct Enumeration {
    pub(crate) name: &'static str,
    /// What C calls it, if it does.
    pub(crate) c_type: Option<&'static str>,
    pub(crate) size: usize,
    pub(crate) constants: &'static [(&'static str, i64)],
}

/// A function of the library.
#[cfg(feature = "load")]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// None or one.
    pub(crate) result: &'static [&'static str],
}

/// The size of what a pointer that `_place` returns points to. It isn't called.
pub(crate) const fn size_of_target<S, T>(_place: fn(*const S) -> *const T) -> usize {
    size_of::<T>()
}

/// What is declared with `c_type!`. The compiler reports what isn't here: it is dead code.
const STRUCTURES: &[Structure] = &[
    address_handle::ibv_ah,
    address_handle::ibv_grh,
    completion::ibv_comp_channel,
    completion::ibv_cq,
    completion::ibv_wc,
    device::_ibv_device_ops,
    device::ibv_context,
    device::ibv_context_ops,
    device::ibv_device,
    device::ibv_device_attr,
    event::ibv_async_event,
    event::ibv_async_event_element,
    extended::ibv_cq_ex,
    extended::ibv_cq_init_attr_ex,
    extended::ibv_cq_moderation_caps,
    extended::ibv_data_buf,
    extended::ibv_device_attr_ex,
    extended::ibv_moderate_cq,
    extended::ibv_modify_cq_attr,
    extended::ibv_odp_caps,
    extended::ibv_odp_transport_caps,
    extended::ibv_packet_pacing_caps,
    extended::ibv_parent_domain_init_attr,
    extended::ibv_pci_atomic_caps,
    extended::ibv_poll_cq_attr,
    extended::ibv_qp_ex,
    extended::ibv_qp_init_attr_ex,
    extended::ibv_qp_open_attr,
    extended::ibv_query_device_ex_input,
    extended::ibv_rss_caps,
    extended::ibv_rx_hash_conf,
    extended::ibv_td,
    extended::ibv_td_init_attr,
    extended::ibv_tm_cap,
    extended::ibv_tm_caps,
    extended::ibv_tso_caps,
    extended::ibv_values_ex,
    extended::ibv_wc_tm_info,
    extended::verbs_context,
    gid::ibv_gid,
    gid::ibv_gid_entry,
    memory::ibv_mr,
    memory::ibv_mw,
    memory::ibv_mw_bind,
    memory::ibv_pd,
    port::ibv_port_attr,
    queue_pair::ibv_ah_attr,
    queue_pair::ibv_global_route,
    queue_pair::ibv_qp,
    queue_pair::ibv_qp_attr,
    queue_pair::ibv_qp_cap,
    queue_pair::ibv_qp_init_attr,
    shared_receive_queue::ibv_srq,
    shared_receive_queue::ibv_srq_attr,
    shared_receive_queue::ibv_srq_init_attr,
    shared_receive_queue::ibv_srq_init_attr_ex,
    shared_receive_queue::ibv_xrcd,
    shared_receive_queue::ibv_xrcd_init_attr,
    work_request::ibv_mw_bind_info,
    work_request::ibv_recv_wr,
    work_request::ibv_send_wr,
    work_request::ibv_send_wr_atomic,
    work_request::ibv_send_wr_bind_mw,
    work_request::ibv_send_wr_qp_type,
    work_request::ibv_send_wr_rdma,
    work_request::ibv_send_wr_tso,
    work_request::ibv_send_wr_ud,
    work_request::ibv_send_wr_wr,
    work_request::ibv_send_wr_xrc,
    work_request::ibv_sge,
];

/// What is declared with `c_enum!`. The compiler reports what isn't here: it is dead code.
const ENUMERATIONS: &[Enumeration] = &[
    completion::ibv_wc_flags,
    completion::ibv_wc_opcode,
    completion::ibv_wc_status,
    device::ibv_atomic_cap,
    device::ibv_device_cap_flags,
    device::ibv_node_type,
    device::ibv_transport_type,
    event::ibv_event_type,
    extended::ibv_cq_attr_mask,
    extended::ibv_cq_init_attr_mask,
    extended::ibv_create_cq_attr_flags,
    extended::ibv_create_cq_wc_flags,
    extended::ibv_parent_domain_init_attr_mask,
    extended::ibv_qp_create_flags,
    extended::ibv_qp_create_send_ops_flags,
    extended::ibv_qp_init_attr_mask,
    extended::ibv_qp_open_attr_mask,
    extended::ibv_values_mask,
    gid::ibv_gid_type,
    memory::ibv_access_flags,
    memory::ibv_advise_mr_advice,
    memory::ibv_mw_type,
    memory::ibv_rereg_mr_err_code,
    memory::ibv_rereg_mr_flags,
    port::ibv_link_layer,
    port::ibv_mtu,
    port::ibv_port_cap_flags,
    port::ibv_port_flags,
    port::ibv_port_state,
    queue_pair::ibv_mig_state,
    queue_pair::ibv_qp_attr_mask,
    queue_pair::ibv_qp_state,
    queue_pair::ibv_qp_type,
    shared_receive_queue::ibv_srq_attr_mask,
    shared_receive_queue::ibv_srq_init_attr_mask,
    shared_receive_queue::ibv_srq_type,
    shared_receive_queue::ibv_xrcd_init_attr_mask,
    work_request::ibv_send_flags,
    work_request::ibv_wr_opcode,
];

/// Constants that C has as macros of their own.
const MACROS: &[(&str, usize)] =
    &[("IBV_SYSFS_NAME_MAX", device::IBV_SYSFS_NAME_MAX), ("IBV_SYSFS_PATH_MAX", device::IBV_SYSFS_PATH_MAX)];

/// Structures to which later versions of the header have added fields at the end. Nothing that this crate
/// calls touches those.
const GROWN: &[&str] = &["ibv_port_attr"];

#[test]
fn structures_and_constants_are_as_the_c_compiler_sees_them() {
    // One line for everything that is known here, and the C program's statement that prints the same.
    let mut expected = Vec::new();
    let mut body = String::new();
    for Structure { name, c_type, size, align, fields, .. } in STRUCTURES {
        if GROWN.contains(name) {
            expected.push(format!("{name}: {size} or more, aligned to {align}"));
            writeln!(
                body,
                r#"printf("{name}: %zu or more, aligned to %zu\n", sizeof({c_type}) < {size} ? \
                    sizeof({c_type}) : {size}, _Alignof({c_type}));"#
            )
        } else {
            expected.push(format!("{name}: {size}, aligned to {align}"));
            writeln!(
                body,
                r#"printf("{name}: %zu, aligned to %zu\n", sizeof({c_type}), _Alignof({c_type}));"#
            )
        }
        .unwrap();
        for Field { name: field, offset, size } in fields.iter().copied().flatten() {
            // What is a keyword in Rust isn't one in C.
            let field = field.trim_start_matches("r#");
            // What is a keyword in Rust isn't one in C.
            let field = field.trim_start_matches("r#");
            expected.push(format!("{name}.{field}: {size} at {offset}"));
            writeln!(
                body,
                r#"printf("{name}.{field}: %zu at %zu\n", sizeof((({c_type} *)0)->{field}), \
                    offsetof({c_type}, {field}));"#
            )
            .unwrap();
        }
    }
    for Enumeration { name, c_type, size, constants } in ENUMERATIONS {
        if let Some(c_type) = c_type {
            expected.push(format!("{name}: {size}"));
            writeln!(body, r#"printf("{name}: %zu\n", sizeof({c_type}));"#).unwrap();
        }
        for (constant, value) in *constants {
            expected.push(format!("{constant} = {value}"));
            writeln!(body, r#"printf("{constant} = %lld\n", (long long)({constant}));"#).unwrap();
        }
    }
    for (constant, value) in MACROS {
        expected.push(format!("{constant} = {value}"));
        writeln!(body, r#"printf("{constant} = %lld\n", (long long)({constant}));"#).unwrap();
    }

    let Some(printed) = run(&body, "that structures and constants are laid out as C's") else { return };
    let printed: Vec<_> = printed.lines().collect();
    assert_eq!(printed.len(), expected.len());
    let differences: Vec<_> = printed
        .iter()
        .zip(&expected)
        .filter(|(c, rust)| *c != rust)
        .map(|(c, rust)| format!("C: {c}; here: {rust}"))
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[cfg(feature = "load")]
#[test]
fn functions_have_the_types_that_the_header_gives_them() {
    let mut body = String::new();
    for Function { name, arguments, result } in library::FUNCTIONS {
        let result = result.first().map_or("void".to_owned(), |result| c_type(result));
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| match *name {
                // The older, shorter structure.
                "ibv_query_port" => c_type(argument).replace("ibv_port_attr", "_compat_ibv_port_attr"),
                _ => c_type(argument),
            })
            .collect();
        let arguments = arguments.join(", ");
        // In parentheses, lest a macro of that name takes its place.
        writeln!(
            body,
            r#"printf("%s", __builtin_types_compatible_p(__typeof__((&({name}))), {result} \
                (*)({arguments})) ? "" : "{name}: not {result} ({arguments})\n");"#
        )
        .unwrap();
    }
    let Some(printed) = run(&body, "that functions are called as they are in C") else { return };
    assert_eq!(printed, "");
}

/// The functions that stand in structures as pointers.
#[cfg(feature = "load")]
#[test]
fn pointers_to_functions_have_the_types_that_the_header_gives_them() {
    let mut body = String::new();
    for Structure { c_type: structure, types, .. } in STRUCTURES {
        for (field, rust) in *types {
            let Some(function) = rust.strip_prefix("op! ").or(rust.strip_prefix("op!")) else { continue };
            let function: String = function.split_whitespace().collect::<Vec<_>>().join(" ");
            let inner = function.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap().trim();
            let (arguments, result) = inner.split_once(" -> ").unwrap_or((inner, ""));
            let arguments = arguments.trim().trim_start_matches('(').trim_end_matches(')');
            let known = |rust: &str| match rust.rsplit_once(' ') {
                Some((pointer, "Self")) => c_type(&format!("{pointer} c_void")).replace("void", structure),
                _ => c_type(rust),
            };
            let arguments = arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty());
            let arguments = arguments.map(known).collect::<Vec<_>>().join(", ");
            let result = if result.is_empty() { "void".to_owned() } else { known(result.trim()) };
            writeln!(
                body,
                r#"printf("%s", __builtin_types_compatible_p(__typeof__((({structure} *)0)->{field}), \
                    {result} (*)({arguments})) ? "" : "{structure}.{field}: not {result} ({arguments})\n");"#
            )
            .unwrap();
        }
    }
    assert!(body.matches("printf").count() > 50, "{body}");
    let Some(printed) = run(&body, "that drivers' functions are called as they are in C") else { return };
    assert_eq!(printed, "");
}

/// A type that Rust writes so, as C writes it.
#[cfg(feature = "load")]
fn c_type(rust: &str) -> String {
    if let Some(target) = rust.strip_prefix("*mut ") {
        return format!("{} *", c_type(target));
    }
    if let Some(target) = rust.strip_prefix("*const ") {
        return format!("{} const *", c_type(target));
    }
    match rust {
        "c_char" => "char",
        "c_int" => "int",
        "c_uint" => "unsigned int",
        "c_void" => "void",
        "u8" => "uint8_t",
        "ibv_wq" => "struct ibv_wq",
        "u16" => "uint16_t",
        "u32" => "uint32_t",
        "u64" => "uint64_t",
        "usize" => "size_t",
        "__be16" | "__be32" | "__be64" => rust,
        _ => {
            let structure = STRUCTURES.iter().find(|known| known.name == rust).map(|known| known.c_type);
            let enumeration =
                ENUMERATIONS.iter().find(|known| known.name == rust).and_then(|known| known.c_type);
            structure.or(enumeration).unwrap_or_else(|| panic!("what is {rust} in C?"))
        }
    }
    .to_owned()
}

/// What a C program with this `main` prints; nothing if the header isn't there.
fn run(body: &str, promise: &str) -> Option<String> {
    const HEADER: &str = "#include <infiniband/verbs.h>\n";
    if cc(&["-E", "-"], HEADER).is_err() {
        gate::missing("<infiniband/verbs.h> (libibverbs-dev), or a C compiler", promise);
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("program");
    // The types are compiled against, no function is called: they need not be there.
    let source = format!(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n{HEADER}int main(void) {{\n{body}return 0;\n}}\n"
    );
    if let Err(said) = cc(&["-x", "c", "-", "-o", program.to_str().unwrap()], &source) {
        panic!("cc: {said}");
    }
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Runs the C compiler on `source`. The error is what it said.
fn cc(arguments: &[&str], source: &str) -> Result<(), String> {
    let mut child = Command::new("cc")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let written = child.stdin.take().unwrap().write_all(source.as_bytes());
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() && written.is_ok() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
