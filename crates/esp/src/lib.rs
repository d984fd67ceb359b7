//! RoCEv2 packets inside ESP in UDP (RFC 4303, RFC 4106, RFC 3948), sans-IO: no sockets, threads, clock or randomness.
//!
//! Each RoCEv2 packet, from BTH through ICRC, becomes one datagram that only the holder of a key can read or make.
//! The format is the one of the kernel's IPsec (transport mode, UDP encapsulation, AES-GCM, extended sequence
//! numbers), so that Soft-RoCE behind XFRM, cards with packet offload, and tshark speak it too.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layout`] | where the parts of a sealed datagram stand, and how long it is |
//! | [`spi`] | security parameter indexes, among them those that share a UDP port with plain RoCEv2 |
//! | [`key`] | AES-GCM keys with their salt |
//! | [`outbound`] | sealing: a new number for every transmission, equal lengths by padding |
//! | [`inbound`] | opening in place: replay window, tag, format; why a datagram is dropped |
//! | [`replay`] | the replay window over extended sequence numbers |
//!
//! A security association (SA) goes in one direction: an [`Outbound`] here is an [`Inbound`] at the peer. Keys and
//! SPIs come from above, inside TLS; nothing here negotiates.
//!
//! ```
//! use rocev2_esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi, layout};
//!
//! let material = [7; 36]; // 32 bytes of AES-256 and 4 of salt, from TLS's exporter
//! let spi = Spi::for_shared_port(0x1234_5678, 0);
//! let key = || Key::new(Algorithm::Aes256Gcm, &material).expect("36 bytes");
//! let out = Outbound::new(spi, key(), Inner { source_port: 0xc001, checksum: None });
//! let mut into = Inbound::new(spi, key(), rocev2_esp::replay::DEFAULT_WINDOW);
//!
//! // The packet stands behind the room for the headers; padding makes datagrams of a run equally long.
//! let packet = [0x04; 40];
//! let mut datagram = vec![0; layout::sealed_len(packet.len())];
//! datagram[layout::HEADROOM..][..packet.len()].copy_from_slice(&packet);
//! out.sealer().seal(&mut datagram, packet.len()).expect("a fresh key");
//!
//! let opened = into.open(&mut datagram.clone()).expect("authentic").packet.to_vec();
//! assert_eq!(opened, packet);
//! assert!(into.open(&mut datagram).is_err(), "a replay");
//! ```
#![forbid(unsafe_code)]

pub mod inbound;
pub mod key;
pub mod layout;
pub mod outbound;
pub mod replay;
pub mod spi;

pub use inbound::{DropReason, Inbound, Opened};
pub use key::{Algorithm, Key, KeyError};
pub use outbound::{Inner, Outbound, SealError, Sealer};
pub use spi::Spi;

/// The UDP port of ESP in UDP where a peer has no other (RFC 3948). A kernel peer's encapsulation socket takes it.
pub const NAT_TRAVERSAL_PORT: u16 = 4500;
