//! Which paths are redirected, and to where.

use libc::{PATH_MAX, c_char};
use std::ffi::CStr;

/// What is looked up in the tree, with all that is below it.
const REDIRECTED: [&[u8]; 3] = [b"/sys/class/infiniband", b"/sys/class/infiniband_verbs", b"/dev/infiniband"];

/// The variable that names the tree's root.
const TREE: &CStr = c"SECURE_RDMA_TREE";

/// A path that may have changed.
pub(crate) struct Redirected {
    bytes: [u8; PATH_MAX as usize],
    is_changed: bool,
}

impl Redirected {
    /// What is to be looked up instead of `path`.
    ///
    /// # Safety
    /// `path` must be null or a C string.
    pub(crate) unsafe fn of(path: *const c_char) -> Self {
        let mut redirected = Self { bytes: [0; PATH_MAX as usize], is_changed: false };
        // SAFETY: programs that change the environment while others read it are at fault by themselves; the C
        // library's own functions read it as well.
        let root = unsafe { libc::getenv(TREE.as_ptr()) };
        if !path.is_null() && !root.is_null() {
            // SAFETY: both are C strings, which nobody changes during the call.
            let (root, path) = unsafe { (CStr::from_ptr(root).to_bytes(), CStr::from_ptr(path).to_bytes()) };
            redirected.is_changed = redirect(root, path, &mut redirected.bytes);
        }
        redirected
    }

    /// The path to use, where `original` was asked for.
    pub(crate) fn as_ptr(&self, original: *const c_char) -> *const c_char {
        if self.is_changed { self.bytes.as_ptr().cast() } else { original }
    }
}

/// Writes the place of `path` in the tree at `root`, and a 0, to `to`; false if it isn't one of those that are there,
/// or doesn't fit.
fn redirect(root: &[u8], path: &[u8], to: &mut [u8]) -> bool {
    let is_below = |prefix: &&[u8]| {
        path.strip_prefix(*prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    };
    if root.is_empty() || !REDIRECTED.iter().any(is_below) {
        return false;
    }
    let len = root.len() + path.len();
    let Some(place) = to.get_mut(..=len) else { return false };
    let (first, second) = place.split_at_mut(root.len());
    first.copy_from_slice(root);
    let (second, end) = second.split_at_mut(path.len());
    second.copy_from_slice(path);
    end.fill(0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirected(path: &str) -> Option<String> {
        let mut to = [0xff; 64];
        redirect(b"/run/tree", path.as_bytes(), &mut to)
            .then(|| CStr::from_bytes_until_nul(&to).unwrap().to_str().unwrap().into())
    }

    #[test]
    fn what_belongs_to_rdma_devices_is_in_the_tree_and_nothing_else() {
        for path in [
            "/sys/class/infiniband",
            "/sys/class/infiniband/",
            "/sys/class/infiniband/mlx5_0/ports/1",
            "/sys/class/infiniband_verbs/uverbs0/ibdev",
            "/dev/infiniband/uverbs0",
        ] {
            assert_eq!(redirected(path), Some(format!("/run/tree{path}")), "{path}");
        }
        for path in [
            "",
            "/",
            "/sys/class",
            "/sys/class/infiniband_mad",
            "/dev/infinibandx",
            "sys/class/infiniband",
            "/dev/null",
        ] {
            assert_eq!(redirected(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_that_does_not_fit_is_left_alone() {
        let long = format!("/dev/infiniband/{}", "x".repeat(64));
        assert_eq!(redirected(&long), None);
        let fits = "/dev/infiniband/".to_owned() + &"x".repeat(64 - 9 - 16 - 1);
        assert!(redirected(&fits).is_some());
        assert_eq!(redirected(&(fits + "x")), None);
    }
}
