//! Where the libraries are that programs get.

use super::runtime_dir::make_private;
use crate::failure::Failure;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The names that programs know the libraries by, and those that cargo gives them.
const LIBRARIES: [(&str, &str); 5] = [
    ("libibverbs.so.1", BUILT_VERBS),
    ("libibverbs.so", BUILT_VERBS),
    ("librdmacm.so.1", BUILT_CM),
    ("librdmacm.so", BUILT_CM),
    (PATHS, BUILT_PATHS),
];
const PATHS: &str = "libibverbs-paths.so";
const BUILT_VERBS: &str = "libibverbs_rocev2.so";
const BUILT_CM: &str = "librdmacm_rocev2.so";
const BUILT_PATHS: &str = "libibverbs_rocev2_paths.so";

/// A directory that has the libraries under the names that programs know.
pub(crate) struct Libraries(PathBuf);

impl Libraries {
    /// Finds them: installed in `../lib/secure-rdma` beside the program's directory, or where cargo has built them.
    pub(crate) fn find(place: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::system("finding this program's own file"))?;
        let own = program.parent().unwrap_or(Path::new("/"));
        let installed = own.join("../lib/secure-rdma");
        if LIBRARIES.iter().all(|(name, _)| installed.join(name).is_file()) {
            return installed.canonicalize().map(Self).map_err(Failure::system("finding the libraries"));
        }
        // Cargo puts what another package depends on into `deps`, and this program's tests run there.
        let built = [own.to_owned(), own.join("deps")];
        let Some(built) = built.iter().find(|at| LIBRARIES.iter().all(|(_, built)| at.join(built).is_file()))
        else {
            return Err(Failure::Other(format!(
                "the libraries for other programs are neither in {} (installed) nor in {} (built by cargo)",
                installed.display(),
                own.display()
            )));
        };
        Self::link(place, built)
    }

    /// Links the built libraries under the names that programs know.
    fn link(place: &Path, built: &Path) -> Result<Self, Failure> {
        let mut hasher = DefaultHasher::new();
        built.hash(&mut hasher);
        let directory = place.join(format!("lib-{:016x}", hasher.finish()));
        make_private(&directory)?;
        for (name, target) in LIBRARIES {
            match symlink(built.join(target), directory.join(name)) {
                Ok(()) => {}
                // Of an earlier run: the directory's name says where it leads.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Failure::Other(format!("{}: {error}", directory.display()))),
            }
        }
        Ok(Self(directory))
    }

    /// For the loader to search.
    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// For the loader to load first.
    pub(crate) fn paths(&self) -> PathBuf {
        self.0.join(PATHS)
    }
}
