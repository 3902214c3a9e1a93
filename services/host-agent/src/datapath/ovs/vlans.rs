// SPDX-License-Identifier: Apache-2.0
//! Which ports get the frames of which VLAN, and how they see them.

use dvs_schemas::{PrivateVlans, Trunk, VlanId, VlanRole};

use crate::merge::EffectiveVlan;

/// A VLAN as the pipeline numbers them: 0 stands for frames that have no tag
/// on the wire, which are a broadcast domain of their own.
pub(super) type Vid = u16;

/// The highest VLAN.
pub(super) const LAST: Vid = 4094;

/// How a frame looks on its way out of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tag {
    /// Without a tag.
    Off,
    /// With the tag of its VLAN.
    On,
}

/// VLANs from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Span {
    pub(super) first: Vid,
    pub(super) last: Vid,
}

impl Span {
    pub(super) fn only(vid: Vid) -> Self {
        Self {
            first: vid,
            last: vid,
        }
    }

    #[cfg(test)]
    pub(super) fn contains(self, vid: Vid) -> bool {
        self.first <= vid && vid <= self.last
    }

    /// The span as masked 12-bit values, as few as there can be.
    pub(super) fn masks(self) -> Vec<Masked> {
        let mut masks = Vec::new();
        let mut at = u32::from(self.first);
        let end = u32::from(self.last) + 1;
        while at < end {
            // The largest aligned block that begins here and does not reach
            // beyond the end.
            let aligned = if at == 0 { 12 } else { at.trailing_zeros() };
            let fitting = (end - at).ilog2();
            let bits = aligned.min(fitting);
            let mask = (0xfff_u32 << bits) & 0xfff;
            masks.push(Masked {
                value: vid(at),
                mask: vid(mask),
            });
            at += 1 << bits;
        }
        masks
    }
}

fn vid(number: u32) -> Vid {
    // Twelve bits at most: spans end at 4094.
    Vid::try_from(number).unwrap_or(LAST)
}

/// VLANs whose bits under the mask are those of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Masked {
    pub(super) value: Vid,
    pub(super) mask: Vid,
}

/// What a port receives: disjoint spans, ascending.
pub(super) fn receives(vlan: &EffectiveVlan, private: &PrivateVlans) -> Vec<(Span, Tag)> {
    match vlan {
        EffectiveVlan::Untagged => vec![(Span::only(0), Tag::Off)],
        EffectiveVlan::Access(vlan) => vec![(Span::only(vlan.get()), Tag::Off)],
        EffectiveVlan::Trunk(trunk) => trunk_receives(trunk),
        EffectiveVlan::Private {
            vlan,
            role,
            primary,
        } => {
            let mut vids = private_receives(*vlan, *role, *primary, private);
            vids.sort_unstable();
            vids.dedup();
            vids.into_iter()
                .map(|vid| (Span::only(vid), Tag::Off))
                .collect()
        }
    }
}

fn trunk_receives(Trunk { vlans, native }: &Trunk) -> Vec<(Span, Tag)> {
    let native = native.map(VlanId::get);
    let mut spans: Vec<(Span, Tag)> = Vec::new();
    for range in vlans.ranges() {
        let (first, last) = (range.first().get(), range.last().get());
        match native.filter(|native| first <= *native && *native <= last) {
            None => spans.push((Span { first, last }, Tag::On)),
            Some(native) => {
                let below = (first < native).then(|| Span {
                    first,
                    last: native - 1,
                });
                let above = (native < last).then(|| Span {
                    first: native + 1,
                    last,
                });
                spans.extend(below.into_iter().chain(above).map(|span| (span, Tag::On)));
            }
        }
    }
    spans.extend(native.map(|native| (Span::only(native), Tag::Off)));
    spans.sort_unstable();
    spans
}

/// RFC 5517, section 3: who hears whom within a private VLAN. Frames keep the
/// VLAN of their sender, also on the wire between switches.
fn private_receives(
    vlan: VlanId,
    role: VlanRole,
    primary: VlanId,
    private: &PrivateVlans,
) -> Vec<Vid> {
    match role {
        VlanRole::Promiscuous => private
            .roles()
            .filter(|(_, _, of)| *of == primary)
            .map(|(member, _, _)| member.get())
            .collect(),
        VlanRole::Isolated => vec![primary.get()],
        VlanRole::Community => vec![primary.get(), vlan.get()],
    }
}

/// The VLAN of a port that sends and receives in that one alone, untagged.
pub(super) fn only(vlan: &EffectiveVlan) -> Option<Vid> {
    match vlan {
        EffectiveVlan::Untagged => Some(0),
        EffectiveVlan::Access(vlan) => Some(vlan.get()),
        EffectiveVlan::Private { .. } | EffectiveVlan::Trunk(_) => None,
    }
}

/// The VLAN of what a port sends without a tag, if that passes at all.
pub(super) fn sends_untagged(vlan: &EffectiveVlan) -> Option<Vid> {
    match vlan {
        EffectiveVlan::Untagged => Some(0),
        EffectiveVlan::Access(vlan) | EffectiveVlan::Private { vlan, .. } => Some(vlan.get()),
        EffectiveVlan::Trunk(trunk) => trunk.native.map(VlanId::get),
    }
}

/// The VLANs that a port may send with their tags.
pub(super) fn sends_tagged(vlan: &EffectiveVlan) -> Vec<Span> {
    match vlan {
        EffectiveVlan::Untagged | EffectiveVlan::Access(_) | EffectiveVlan::Private { .. } => {
            Vec::new()
        }
        EffectiveVlan::Trunk(trunk) => trunk
            .vlans
            .ranges()
            .iter()
            .map(|range| Span {
                first: range.first().get(),
                last: range.last().get(),
            })
            .collect(),
    }
}

/// VLANs whose frames go to the same members, with those members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment<M> {
    pub(super) span: Span,
    /// In the order of the members given.
    pub(super) members: Vec<(M, Tag)>,
}

/// Cuts the VLANs into segments. Those that nobody receives are left out.
pub(super) fn segments<M: Clone>(members: &[(M, Vec<(Span, Tag)>)]) -> Vec<Segment<M>> {
    // Where the set of members may change.
    let mut cuts: Vec<u32> = members
        .iter()
        .flat_map(|(_, spans)| spans)
        .flat_map(|(span, _)| [u32::from(span.first), u32::from(span.last) + 1])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut starting: std::collections::BTreeMap<u32, Vec<(usize, Span, Tag)>> =
        std::collections::BTreeMap::new();
    for (index, (_, spans)) in members.iter().enumerate() {
        for (span, tag) in spans {
            let at = starting.entry(u32::from(span.first)).or_default();
            at.push((index, *span, *tag));
        }
    }
    let mut open: std::collections::BTreeMap<usize, (Span, Tag)> =
        std::collections::BTreeMap::new();
    let mut segments = Vec::new();
    for pair in cuts.windows(2) {
        let [first, end] = [pair[0], pair[1]];
        open.retain(|_, (span, _)| u32::from(span.last) >= first);
        for (index, span, tag) in starting.remove(&first).into_iter().flatten() {
            open.insert(index, (span, tag));
        }
        let of = |(index, (_, tag)): (&usize, &(Span, Tag))| {
            members
                .get(*index)
                .map(|(member, _)| (member.clone(), *tag))
        };
        let here: Vec<(M, Tag)> = open.iter().filter_map(of).collect();
        if !here.is_empty() {
            segments.push(Segment {
                span: Span {
                    first: vid(first),
                    last: vid(end - 1),
                },
                members: here,
            });
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::merge::merge;
    use dvs_schemas::{Policy, arbitrary};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn span() -> impl Strategy<Value = Span> {
        (0..=LAST, 0..=LAST).prop_map(|(a, b)| Span {
            first: a.min(b),
            last: a.max(b),
        })
    }

    fn vlan() -> impl Strategy<Value = (EffectiveVlan, PrivateVlans)> {
        (arbitrary::policy(), arbitrary::private_vlans()).prop_filter_map(
            "a role",
            |(policy, private)| {
                let nothing = Policy::default();
                let merged = merge(&policy, &nothing, &nothing, &private).ok()?;
                Some((merged.vlan, private))
            },
        )
    }

    proptest! {
        #[test]
        fn masks_cover_the_span_and_nothing_else(span in span()) {
            let masks = span.masks();
            for vid in 0..=0xfff {
                let covered = masks.iter().filter(|m| vid & m.mask == m.value).count();
                prop_assert_eq!(covered, usize::from(span.contains(vid)), "{}", vid);
            }
            prop_assert!(masks.len() <= 22);
        }

        #[test]
        fn what_a_port_receives_is_disjoint_and_ascending((vlan, private) in vlan()) {
            let spans = receives(&vlan, &private);
            prop_assert!(!spans.is_empty());
            for pair in spans.windows(2) {
                prop_assert!(pair[0].0.last < pair[1].0.first);
            }
        }

        /// A port that may send into a VLAN hears others who do, unless it is
        /// isolated.
        #[test]
        fn who_sends_hears_its_own_kind((vlan, private) in vlan()) {
            let spans = receives(&vlan, &private);
            let hears = |vid: Vid| spans.iter().any(|(span, _)| span.contains(vid));
            let isolated =
                matches!(vlan, EffectiveVlan::Private { role: VlanRole::Isolated, .. });
            if let Some(vid) = sends_untagged(&vlan) {
                prop_assert_eq!(hears(vid), !isolated);
            }
            for span in sends_tagged(&vlan) {
                prop_assert!(hears(span.first) && hears(span.last));
            }
        }

        #[test]
        fn a_port_gets_the_frames_of_the_vlans_that_it_is_said_to_receive_in(
            (vlan, private) in vlan(),
            wanted in arbitrary::vlan_id(),
        ) {
            let mut spans = receives(&vlan, &private).into_iter();
            let gets = spans.any(|(span, _)| span.contains(wanted.get()));
            prop_assert_eq!(vlan.receives_in(wanted, &private), gets);
        }

        #[test]
        fn a_segment_has_exactly_the_members_that_receive_its_vlans(
            drawn in vec(vec((span(), any::<bool>()), 0..4), 0..6),
            probes in vec(0..=LAST, 1..20),
        ) {
            let members: Vec<(usize, Vec<(Span, Tag)>)> = drawn
                .into_iter()
                .map(|spans| {
                    // Disjoint and ascending, as ports have them.
                    let mut kept: Vec<(Span, Tag)> = Vec::new();
                    for (span, on) in spans {
                        let tag = if on { Tag::On } else { Tag::Off };
                        if kept.iter().all(|(k, _)| k.last < span.first || span.last < k.first) {
                            kept.push((span, tag));
                        }
                    }
                    kept.sort_unstable();
                    kept
                })
                .enumerate()
                .collect();
            let segments = segments(&members);
            for vid in probes {
                let wanted: Vec<(usize, Tag)> = members
                    .iter()
                    .filter_map(|(member, spans)| {
                        let (_, tag) = spans.iter().find(|(span, _)| span.contains(vid))?;
                        Some((*member, *tag))
                    })
                    .collect();
                let here: Vec<_> = segments.iter().filter(|s| s.span.contains(vid)).collect();
                prop_assert!(here.len() <= 1);
                let found = here.first().map(|s| s.members.clone()).unwrap_or_default();
                prop_assert_eq!(found, wanted, "{}", vid);
            }
        }
    }
}
