//! What can be wrong with certificates, keys and the files that hold them.

use std::io;
use std::path::PathBuf;

use super::Timestamp;

/// Why a certificate or key couldn't be used, made or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsError {
    /// No place for the state directory.
    #[error("neither XDG_STATE_HOME nor HOME says where state belongs: give --certs DIR")]
    NoHome,
    /// A file or directory that can't be read.
    #[error("can't read {path}: {source}", path = path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory that can't be written.
    #[error("can't write {path}: {source}", path = path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file too long to hold certificates.
    #[error("{path} has more than {limit} bytes: that is no certificate", path = path.display())]
    TooLong {
        /// Which one.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// A directory that someone else could put other certificates into.
    #[error("{path} can be written by others (mode {mode:03o}), who could replace the certificates in it: chmod go-w {path}", path = path.display())]
    DirectoryOpen {
        /// Which one.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory that belongs to someone else.
    #[error("{path} belongs to user {owner}, who could replace the certificates in it: use a directory of your own", path = path.display())]
    DirectoryForeign {
        /// Which one.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// What should be a directory isn't one.
    #[error("{path} is not a directory", path = path.display())]
    NotADirectory {
        /// Which one.
        path: PathBuf,
    },
    /// A private key that others can read.
    #[error("{path} can be used by others (mode {mode:03o}): a private key must not be. If nobody has copied it, chmod 600 {path}; else issue another", path = path.display())]
    KeyOpen {
        /// Which one.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file without the certificate that it should hold.
    #[error("{path} is not a certificate in PEM form: {reason}", path = path.display())]
    NotACertificate {
        /// Which one.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// A file without the private key that it should hold.
    #[error("{path} is not a private key in PEM form: {reason}", path = path.display())]
    NotAKey {
        /// Which one.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// A key that belongs to another certificate.
    #[error("the key {key} is not that of the certificate {certificate}", key = key.display(), certificate = certificate.display())]
    KeyMismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// A certificate that can't vouch for others.
    #[error("{path} holds the certificate of {subject}, which is not a CA: give that of the CA that issued it", path = path.display())]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        subject: String,
    },
    /// A CA whose time is over.
    #[error("the CA in {path} ended on {not_after}: move it and its key away, make another, and give clients its fingerprint", path = path.display())]
    AuthorityExpired {
        /// The file.
        path: PathBuf,
        /// When.
        not_after: Timestamp,
    },
    /// A directory without a CA.
    #[error("there is no CA in {dir}: start a server on this account first, or say whom to trust with --ca FILE or --pin sha256:… (the server prints it at its start)", dir = dir.display())]
    NoAuthority {
        /// Which one.
        dir: PathBuf,
    },
    /// A certificate has to be issued, and the CA's key isn't there.
    #[error("the certificate {certificate} is needed ({reason}), and the CA's key {key} to issue it with is not there", certificate = certificate.display(), key = key.display())]
    NoAuthorityKey {
        /// The certificate to issue.
        certificate: PathBuf,
        /// Why.
        reason: String,
        /// The key that is missing.
        key: PathBuf,
    },
    /// Another process holds the directory for longer than issuing takes.
    #[error("another process holds {path}: try again when it has ended", path = path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// A name that no file of the store may have.
    #[error(
        "{0:?} can't name a certificate's files: use letters, digits, '-', '_' and '.', not first a '.', not last \"-key\", and neither \"ca\" nor \"server\""
    )]
    FileName(String),
    /// A certificate for nobody.
    #[error("a certificate needs at least one name")]
    NoNames,
    /// Dates that make no certificate.
    #[error("a certificate from {not_before} to {not_after} is not possible: {reason}")]
    Dates {
        /// The first moment.
        not_before: Timestamp,
        /// The last.
        not_after: Timestamp,
        /// Why not.
        reason: String,
    },
    /// The cryptographic library couldn't make a key or certificate.
    #[error("making a certificate failed: {0}")]
    Make(String),
    /// The system doesn't tell its addresses.
    #[error("can't list this host's addresses: {0}")]
    Interfaces(#[source] io::Error),
}
