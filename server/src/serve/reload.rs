//! Goes over to other settings while the server runs: all of them, or none.
//!
//! Whatever can fail comes first; from then on nothing can. The core goes by the new settings at once, a gate from the next
//! connection on: whoever is there keeps the rules under which they came. What rests on a listener, a thread or a table that was
//! laid out at the beginning waits for a restart.

use gatepost_protocols::listener::Own;
use gatepost_protocols::mount::Mount;

use super::{InForce, Server};
use crate::config::{Changes, Config, Sources};
use crate::listen::Offer;
use crate::listen::tls::Certificates;
use crate::{supervisor, telemetry};

impl Server {
    /// Reads the settings anew, with the files that they name. What cannot be used changes nothing; either is said in the log.
    pub fn reload(&mut self, sources: &Sources) {
        supervisor::tell_reloading();
        match self.settle(sources) {
            Ok(Changes { holds, waits }) => {
                let said = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
                tracing::info!(changed = said(&holds), "the settings were read anew; changed: {}", said(&holds));
                if !waits.is_empty() {
                    tracing::warn!(keys = said(&waits), "these have changed and need a restart: {}", said(&waits));
                }
            }
            Err(why) => tracing::error!(why, "the settings cannot be used, and nothing was changed: {why}"),
        }
        supervisor::tell("READY=1");
    }

    fn settle(&mut self, sources: &Sources) -> Result<Changes, String> {
        let (config, changes) = Config::reload(sources, &self.began, &self.in_force.told).map_err(|error| error.to_string())?;
        let certificates = match (&self.certificates, config.https) {
            (Some(used), Some((_, files))) => Some((used, Certificates::open(files).map_err(|fault| fault.to_string())?)),
            _ => None,
        };
        let (mut common, mut own) = (Vec::new(), Vec::new());
        let before = self.common.offer.now();
        for (gate, section) in &config.gates {
            let bad = |bad: gatepost_protocols::section::BadSetting| format!("{}.{}: {}", gate.name, bad.key, bad.what);
            let last = self.in_force.gates.iter().find(|(other, _)| other.name == gate.name).map(|(_, section)| section);
            if last == Some(section) && self.in_force.public_url == config.public_url {
                // Kept as it is, so that what it counts goes on being counted.
                let kept = before.mounts.iter().filter(|(name, _)| *name == gate.name);
                common.extend(kept.map(|(name, mount)| (*name, mount.clone())));
            } else {
                let mounts = (gate.mounts)(section, config.public_url.as_deref()).map_err(bad)?;
                common.extend(mounts.into_iter().map(|mount| (gate.name, mount)));
            }
            if let Some(offered) = self.sites.iter().find(|offered| offered.gate == gate.name)
                && let Some(Own { listeners, mounts, .. }) = (gate.own)(section).map_err(bad)?
            {
                let mut mounts: Vec<(usize, Mount)> = mounts(&offered.ports);
                for (index, (site, listener)) in offered.sites.iter().zip(listeners).enumerate() {
                    let here = mounts.extract_if(.., |(at, _)| *at == index).map(|(_, mount)| (gate.name, mount)).collect();
                    own.push((site, Offer { mounts: here, proxies: config.proxies.clone() }, listener.strangers));
                }
            }
        }
        self.core.identity.resettle(config.identity)?;
        telemetry::exchange(&config.log)?;
        if let Some((used, read)) = certificates {
            used.follow(read);
        }
        self.common.offer.replace(Offer { mounts: common, proxies: config.proxies });
        for (site, offer, most) in own {
            site.offer.replace(offer);
            if let (Some(strangers), Some(most)) = (&site.strangers, most) {
                strangers.allow(most.into());
            }
        }
        drop(before);
        self.world.ways.forget_unused();
        self.in_force = InForce {
            told: config.told,
            public_url: config.public_url,
            gates: config.gates,
            drain_timeout: config.drain_timeout,
            drain_rate: config.drain_rate,
        };
        Ok(changes)
    }
}
