//! What both templates show: the document, and words for what is in it.

use crate::experiment::document::{
    Document, Finding, Kind, Lines, Part, PingpongRun, Platform, Point, Spread, Verdict, What,
};

/// A document with words.
pub(super) struct View<'a> {
    pub(super) found: &'a Document,
}

impl<'a> View<'a> {
    pub(super) fn new(found: &'a Document) -> Self {
        Self { found }
    }

    /// A platform's name.
    pub(super) fn platform(&self, platform: &Platform) -> String {
        let kind = match platform.kind {
            Kind::Embedded => "Embedded device (RoCEv2 in user space)",
            Kind::SoftRoce => "Soft-RoCE (the Linux kernel's rdma_rxe)",
            Kind::Hardware => "Network card",
        };
        match &platform.device {
            Some(device) => format!("{kind}: {device}"),
            None => kind.to_owned(),
        }
    }

    /// The platform that everything else was measured on, if it was measured.
    pub(super) fn main_platform(&self) -> Option<&'a Platform> {
        let own = |platform: &&Platform| platform.device.as_ref() == Some(&self.found.device);
        self.found.platforms.iter().find(own)
    }

    /// A figure with how far its runs were apart.
    pub(super) fn spread(&self, spread: &Spread) -> String {
        let Spread { median, least, most, runs } = spread;
        match runs {
            1 => format!("{median:.2}"),
            _ => format!("{median:.2} ({least:.2}–{most:.2})"),
        }
    }

    pub(super) fn verdict(&self, verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Met => "met",
            Verdict::NotMet => "NOT MET",
            Verdict::NotShown => "not shown by this run",
        }
    }

    /// The same, for a style sheet.
    pub(super) fn class(&self, verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Met => "met",
            Verdict::NotMet => "bad",
            Verdict::NotShown => "open",
        }
    }

    pub(super) fn looked_for(&self, what: &What) -> &'static str {
        match what {
            What::Pattern => "what was sent, written and read",
            What::ServerQpn => "the server's queue pair number",
            What::ClientQpn => "the client's queue pair number",
            What::ClientPsn => "the client's first PSN",
            What::Region => "the region's address and rkey",
        }
    }

    /// Each thing that was looked for: in the session in clear, and in the sealed one.
    pub(super) fn findings(&self) -> Vec<(&'a Finding, &'a Finding)> {
        let Part::Measured(wire) = &self.found.wire else { return Vec::new() };
        wire.clear.findings.iter().zip(&wire.sealed.findings).collect()
    }

    /// The unchanged program's two runs.
    pub(super) fn pingpongs(&self) -> Vec<(&'static str, &'a Part<PingpongRun>)> {
        let Part::Measured(pingpong) = &self.found.pingpong else { return Vec::new() };
        vec![("in clear", &pingpong.clear), ("sealed, by packets", &pingpong.sealed)]
    }

    /// The rows of a table of both data paths.
    pub(super) fn rows(&self, lines: &Lines) -> Vec<(&'static str, Point)> {
        let row = |path| move |point: &Point| (path, *point);
        lines.sealed.iter().map(row("sealed")).chain(lines.clear.iter().map(row("in clear"))).collect()
    }

    /// How many requirements were met, and how many there are.
    pub(super) fn met(&self) -> (usize, usize) {
        let all = &self.found.requirements;
        (all.iter().filter(|requirement| requirement.verdict == Verdict::Met).count(), all.len())
    }

    /// The first connections' PSNs.
    pub(super) fn first_psns(&self) -> String {
        let Part::Measured(psns) = &self.found.psns else { return String::new() };
        let shown = psns.pairs.iter().take(4);
        shown
            .map(|pair| format!("{:#08x} and {:#08x}", pair.client, pair.server))
            .collect::<Vec<_>>()
            .join("; ")
    }
}
