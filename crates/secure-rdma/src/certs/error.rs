//! What can be wrong with certificates, keys and the files that hold them.

use std::io;
use std::path::{Path, PathBuf};

use super::Timestamp;

/// Why a certificate or key couldn't be used, made or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsError {
    /// No place for the state directory.
    #[error("neither XDG_STATE_HOME nor HOME says where state belongs: name a directory")]
    NoHome,
    /// A file or directory that can't be read.
    #[error("can't read {path}", path = path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory that can't be written.
    #[error("can't write {path}", path = path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file longer than any that is read.
    #[error("{path} has more than {limit} bytes: far more than what belongs there", path = path.display())]
    TooLong {
        /// Which one.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// A directory that someone else could put other certificates into.
    #[error("{path} can be written by others (mode {mode:03o}), who could replace what is in it, and with it \
        the certificates: chmod go-w {path}", path = path.display())]
    DirectoryOpen {
        /// Which one.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What should be a file is something else.
    #[error("{path} is not a file", path = path.display())]
    NotAFile {
        /// Which one.
        path: PathBuf,
    },
    /// A symbolic link in the state directory.
    #[error("{path} is a symbolic link: the files of this directory have to be in it", path = path.display())]
    Link {
        /// Which one.
        path: PathBuf,
    },
    /// A directory that belongs to someone else.
    #[error("{path} belongs to user {owner}, who could replace the certificates there: use a directory of \
        your own", path = path.display())]
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
    /// A private key that somebody else has made.
    #[error("{path} belongs to user {owner}, who knows the private key in it: issue another", path = path.display())]
    KeyForeign {
        /// Which one.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A private key that others can read.
    #[error("{path} can be used by others (mode {mode:03o}): a private key must not be. If nobody has \
        copied it, chmod 600 {path}; else issue another", path = path.display())]
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
    #[error("the key {key} is not that of the certificate \
        {certificate}", key = key.display(), certificate = certificate.display())]
    KeyMismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// A certificate that can't vouch for others.
    #[error("{path} holds the certificate of {subject}, which is not a CA: give that of the CA that issued \
        it", path = path.display())]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        subject: String,
    },
    /// A file without the revocation lists that it should hold.
    #[error("{path} holds no certificate revocation list in PEM or DER form: {reason}", path = path.display())]
    NotRevocations {
        /// Which one.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// A revocation list whose time is over.
    #[error("the revocation list of {issuer} in {path} ended on {next_update}: who has been revoked since \
        nobody knows", path = path.display())]
    RevocationsExpired {
        /// The file.
        path: PathBuf,
        /// Whose list it is.
        issuer: String,
        /// When it ended.
        next_update: Timestamp,
    },
    /// A revocation list that is older than one of the same CA that was used before.
    #[error("the revocation list of {issuer} in {path} is older ({found}) than one that was used \
        before ({used}): who was revoked since would be let in again. Get the newest; if the CA itself has \
        begun anew, remove {remembered}", path = path.display(), remembered = remembered.display())]
    RevocationsRolledBack {
        /// The file.
        path: PathBuf,
        /// Whose list it is.
        issuer: String,
        /// Its number and date.
        found: String,
        /// The newest number and date that were used.
        used: String,
        /// Where these are remembered.
        remembered: PathBuf,
    },
    /// A file that remembers revocation lists, and can't be understood.
    #[error("{path} should say which revocation lists were used, and its line {line} doesn't: \
        if nobody has tampered with it, remove it", path = path.display())]
    Editions {
        /// Which one.
        path: PathBuf,
        /// Its first line that is wrong.
        line: usize,
    },
    /// A record of what was issued that can't be understood.
    #[error("{path} should say what was issued, and its line {line} doesn't: {reason}", path = path.display())]
    Index {
        /// Which one.
        path: PathBuf,
        /// Its first line that is wrong.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// No certificate that could be revoked has that name.
    #[error("no certificate that is called {name} or has that name, and hasn't ended, is known in \
        {dir}", dir = dir.display())]
    NothingToRevoke {
        /// The name.
        name: String,
        /// The CA's directory.
        dir: PathBuf,
    },
    /// A revocation list that the CA whose name it gives hasn't signed.
    #[error("the revocation list of {issuer} in {path} is not signed by that CA's key: it is another CA's \
        of that name, or was changed", path = path.display())]
    RevocationsForged {
        /// The file.
        path: PathBuf,
        /// Whose list it says that it is.
        issuer: String,
    },
    /// No revocation list by a CA whose certificates are to be checked.
    #[error("{path} has no revocation list of the CA {authority}, whose certificates would all be refused: \
        add it", path = path.display())]
    RevocationsMissing {
        /// The file.
        path: PathBuf,
        /// Which CA.
        authority: String,
    },
    /// A CA that may not sign revocation lists.
    #[error("the CA {authority} may not sign revocation lists (its key usage lacks cRLSign)")]
    CannotRevoke {
        /// Which one.
        authority: String,
    },
    /// A certificate that this CA can't revoke.
    #[error("{path} is not a certificate that the CA in {dir} has issued: only the CA that issued it can \
        revoke it", path = path.display(), dir = dir.display())]
    NotIssuedHere {
        /// The certificate's file.
        path: PathBuf,
        /// The CA's directory.
        dir: PathBuf,
    },
    /// A revocation list has to be signed, and the CA's key isn't there.
    #[error("the CA's key {key} to sign the revocation list with is not there", key = key.display())]
    NoRevocationKey {
        /// The key that is missing.
        key: PathBuf,
    },
    /// A CA whose time is over.
    #[error("the CA in {path} ended on {not_after}: move it and its key away, make another, and give \
        clients its fingerprint", path = path.display())]
    AuthorityExpired {
        /// The file.
        path: PathBuf,
        /// When.
        not_after: Timestamp,
    },
    /// A directory without a CA.
    #[error("there is no CA in {dir}", dir = dir.display())]
    NoAuthority {
        /// Which one.
        dir: PathBuf,
    },
    /// A certificate has to be issued, and the CA's key isn't there.
    #[error("the certificate {certificate} is needed ({reason}), and the CA's key {key} to issue it with is \
        not there", certificate = certificate.display(), key = key.display())]
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
        "{0:?} can't name a certificate's files: use letters, digits, '-', '_' and '.', not first a '.', \
         not last \"-key\", and none of \"ca\", \"server\", \"account\" and \"crl\""
    )]
    FileName(String),
    /// The server's certificate is good for none of its names, or not now.
    #[error("the certificate {path} can't be used: {reason}", path = path.display())]
    NotUsable {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
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
    #[error("can't list this host's addresses")]
    Interfaces(#[source] io::Error),
}

impl CertsError {
    /// A file that isn't there.
    pub(crate) fn missing(path: &Path) -> Self {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        Self::Read { path: path.into(), source }
    }
}
