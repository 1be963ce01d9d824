//! Which addresses may be sent to: those of the public internet, and others only where a setting names them.
//!
//! Whoever configures a destination does not thereby get to speak with what only this machine can reach: its own ports,
//! the private network, a cloud's metadata service. An address is judged in its plain form, so one that is wrapped (IPv4 in
//! IPv6, NAT64) counts as what it leads to. The ranges are those of IANA's special-purpose registries for IPv4 and IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What a range is for, when it is not the public internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// This machine (`127.0.0.0/8`, `::1`).
    Loopback,
    /// A private network (`10.0.0.0/8`, `192.168.0.0/16`, `fc00::/7`, …).
    Private,
    /// Neighbours on the wire, where clouds have their metadata service (`169.254.0.0/16`, `fe80::/10`).
    LinkLocal,
    /// Behind a carrier's address translation (`100.64.0.0/10`).
    CarrierGrade,
    /// Kept back for documentation, benchmarks, protocols or the future.
    Reserved,
    /// No address in particular (`0.0.0.0/8`, `::`), which a machine takes for itself.
    Unspecified,
    /// Many at once (`224.0.0.0/4`, `ff00::/8`, `255.255.255.255`).
    Multicast,
}

impl Range {
    /// Says whether no setting allows it: no HTTP server has such an address.
    fn is_never_allowed(self) -> bool {
        matches!(self, Self::Unspecified | Self::Multicast)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::CarrierGrade => "carrier-grade NAT",
            Self::Reserved => "reserved",
            Self::Unspecified => "unspecified",
            Self::Multicast => "multicast",
        })
    }
}

/// An address that may not be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is a {range} address, which this server does not send to; NUDGE_OUTBOUND_ALLOW_PRIVATE can allow it"
)]
pub struct Refused {
    /// The address, as it was found.
    pub address: IpAddr,
    /// Of what kind it is.
    pub range: Range,
}

/// A setting that is none of `0`, `1` and a list of networks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 0, 1, or networks such as 10.0.0.0/8,fd00::/8; `{part}` is none")]
pub struct BadNetworks {
    /// What is no network.
    part: String,
}

/// The addresses that may be sent to besides public ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    every_private: bool,
    networks: Vec<IpNet>,
}

impl FromStr for Addresses {
    type Err = BadNetworks;

    /// Reads `0` (public addresses only), `1` (private ones as well) or the networks that are allowed, with commas between.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "" | "0" => return Ok(Self::default()),
            "1" => return Ok(Self { every_private: true, networks: Vec::new() }),
            _ => {}
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let networks = parts
            .map(|part| {
                part.parse().or_else(|_| part.parse().map(|address: IpAddr| address.into())).map_err(|_| {
                    // Quoted in an error and so kept short.
                    BadNetworks { part: part.chars().take(50).collect() }
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { every_private: false, networks })
    }
}

impl Addresses {
    /// Says whether an address may be sent to.
    ///
    /// # Errors
    /// [`Refused`] when it is not of the public internet and not allowed by name.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        let plain = plain(address);
        let Some(range) = range_of(plain) else { return Ok(()) };
        let allowed = self.every_private
            || self.networks.iter().any(|net| net.contains(&plain) || net.contains(&address));
        if allowed && !range.is_never_allowed() { Ok(()) } else { Err(Refused { address, range }) }
    }
}

/// Unwraps an IPv4 address from its IPv6 form, where the kernel or a gateway would do so too.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    if NAT64.contains(&v6) {
        let [.., a, b, c, d] = v6.octets();
        return Ipv4Addr::new(a, b, c, d).into();
    }
    address
}

/// Gives what an address is for, or nothing when it is of the public internet.
fn range_of(address: IpAddr) -> Option<Range> {
    match address {
        IpAddr::V4(v4) => V4.iter().find(|(net, _)| net.contains(&v4)).map(|(_, range)| *range),
        IpAddr::V6(v6) => match V6.iter().find(|(net, _)| net.contains(&v6)) {
            Some((_, range)) => Some(*range),
            // Everything that is given out so far.
            None if GLOBAL_UNICAST.contains(&v6) => None,
            None => Some(Range::Reserved),
        },
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8, range: Range) -> (Ipv4Net, Range) {
    (Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits), range)
}

const fn net6(a: u16, b: u16, c: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

const V4: &[(Ipv4Net, Range)] = &[
    v4(0, 0, 0, 0, 8, Range::Unspecified),
    v4(10, 0, 0, 0, 8, Range::Private),
    v4(100, 64, 0, 0, 10, Range::CarrierGrade),
    v4(127, 0, 0, 0, 8, Range::Loopback),
    // Azure's host, which answers inside its virtual machines only.
    v4(168, 63, 129, 16, 32, Range::LinkLocal),
    v4(169, 254, 0, 0, 16, Range::LinkLocal),
    v4(172, 16, 0, 0, 12, Range::Private),
    v4(192, 0, 0, 0, 24, Range::Reserved),
    v4(192, 0, 2, 0, 24, Range::Reserved),
    v4(192, 88, 99, 0, 24, Range::Reserved),
    v4(192, 168, 0, 0, 16, Range::Private),
    v4(198, 18, 0, 0, 15, Range::Reserved),
    v4(198, 51, 100, 0, 24, Range::Reserved),
    v4(203, 0, 113, 0, 24, Range::Reserved),
    v4(224, 0, 0, 0, 4, Range::Multicast),
    v4(255, 255, 255, 255, 32, Range::Multicast),
    v4(240, 0, 0, 0, 4, Range::Reserved),
];

/// The translators' prefix of RFC 6052. That of RFC 8215 for local use (`64:ff9b:1::/48`) is no global unicast.
const NAT64: Ipv6Net = net6(0x64, 0xff9b, 0, 96);
const GLOBAL_UNICAST: Ipv6Net = net6(0x2000, 0, 0, 3);

const V6: &[(Ipv6Net, Range)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Range::Loopback),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), Range::Unspecified),
    // Unique local addresses, and the site-local ones before them.
    (net6(0xfc00, 0, 0, 7), Range::Private),
    (net6(0xfec0, 0, 0, 10), Range::Private),
    (net6(0xfe80, 0, 0, 10), Range::LinkLocal),
    (net6(0xff00, 0, 0, 8), Range::Multicast),
    // Protocols, Teredo among them, which holds an IPv4 address.
    (net6(0x2001, 0, 0, 23), Range::Reserved),
    (net6(0x2001, 0xdb8, 0, 32), Range::Reserved),
    // 6to4, which holds an IPv4 address; given up by RFC 7526.
    (net6(0x2002, 0, 0, 16), Range::Reserved),
    (net6(0x3fff, 0, 0, 20), Range::Reserved),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(setting: &str, address: &str) -> Option<Range> {
        let addresses: Addresses = setting.parse().unwrap();
        addresses.check(address.parse().unwrap()).err().map(|refused| refused.range)
    }

    #[test]
    fn public_addresses_may_be_sent_to() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(check("0", address), None, "{address}");
        }
    }

    #[test]
    fn every_other_kind_of_address_is_refused() {
        for (address, range) in [
            ("127.0.0.1", Range::Loopback),
            ("127.255.255.254", Range::Loopback),
            ("::1", Range::Loopback),
            ("10.0.0.1", Range::Private),
            ("172.16.0.1", Range::Private),
            ("172.31.255.255", Range::Private),
            ("192.168.1.1", Range::Private),
            ("fc00::1", Range::Private),
            ("fd00:ec2::254", Range::Private),
            ("fec0::1", Range::Private),
            ("169.254.169.254", Range::LinkLocal),
            ("168.63.129.16", Range::LinkLocal),
            ("fe80::1", Range::LinkLocal),
            ("100.64.0.1", Range::CarrierGrade),
            ("100.100.100.200", Range::CarrierGrade),
            ("100.127.255.255", Range::CarrierGrade),
            ("0.0.0.0", Range::Unspecified),
            ("0.1.2.3", Range::Unspecified),
            ("::", Range::Unspecified),
            ("224.0.0.1", Range::Multicast),
            ("239.255.255.255", Range::Multicast),
            ("255.255.255.255", Range::Multicast),
            ("ff02::1", Range::Multicast),
            ("192.0.0.192", Range::Reserved),
            ("192.0.2.1", Range::Reserved),
            ("192.88.99.1", Range::Reserved),
            ("198.18.0.1", Range::Reserved),
            ("198.51.100.1", Range::Reserved),
            ("203.0.113.1", Range::Reserved),
            ("240.0.0.1", Range::Reserved),
            ("2001:db8::1", Range::Reserved),
            ("3fff::1", Range::Reserved),
            ("5f00::1", Range::Reserved),
            ("4000::1", Range::Reserved),
            // Wrapped: IPv4-mapped, IPv4-compatible, translated, NAT64, local NAT64, Teredo, 6to4.
            ("::ffff:127.0.0.1", Range::Loopback),
            ("::ffff:10.0.0.1", Range::Private),
            ("::ffff:169.254.169.254", Range::LinkLocal),
            ("::127.0.0.1", Range::Reserved),
            ("::ffff:0:127.0.0.1", Range::Reserved),
            ("64:ff9b::7f00:1", Range::Loopback),
            ("64:ff9b::a9fe:a9fe", Range::LinkLocal),
            ("64:ff9b:1::a00:1", Range::Reserved),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Range::Reserved),
            ("2002:7f00:1::", Range::Reserved),
        ] {
            assert_eq!(check("0", address), Some(range), "{address}");
        }
    }

    #[test]
    fn a_setting_allows_private_addresses_or_some_networks_of_them() {
        assert_eq!(check("1", "127.0.0.1"), None);
        assert_eq!(check("1", "::ffff:10.1.2.3"), None);
        assert_eq!(check("1", "fd12::1"), None);
        assert_eq!(check("10.0.0.0/8, fd00::/8", "10.1.2.3"), None);
        assert_eq!(check("10.0.0.0/8, fd00::/8", "::ffff:10.1.2.3"), None);
        assert_eq!(check("10.0.0.0/8, fd00::/8", "fd12::1"), None);
        assert_eq!(check("10.0.0.0/8,fd00::/8", "127.0.0.1"), Some(Range::Loopback));
        assert_eq!(check("127.0.0.1", "127.0.0.1"), None);
        assert_eq!(check("127.0.0.1", "127.0.0.2"), Some(Range::Loopback));
    }

    #[test]
    fn no_setting_allows_what_is_no_servers_address() {
        for address in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert!(check("1", address).is_some(), "{address}");
            assert!(check("0.0.0.0/0,::/0", address).is_some(), "{address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_would_be_one() {
        let error = "10.0.0.0/8,all".parse::<Addresses>().unwrap_err();
        assert_eq!(error.to_string(), "must be 0, 1, or networks such as 10.0.0.0/8,fd00::/8; `all` is none");
        assert!("10.0.0.0/33".parse::<Addresses>().is_err());
        assert_eq!("".parse::<Addresses>(), Ok(Addresses::default()));
    }
}
