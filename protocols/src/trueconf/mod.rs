//! The TrueConf gate: the authorisation of the control API of TrueConf Room and TrueConf VideoSDK.
//!
//! One socket for each connection, JSON both ways. A peer is authorised as a terminal's user or administrator by one string, is
//! told three tokens, and then commands the device; what is not about authorisation goes to the device behind the gate, where
//! there is one. What we do on this wire, and why, is in `docs/protocols/trueconf.md`.
//!
//! `message.rs` the envelope, `methods.rs` which methods there are and whose they are, `request.rs` what they ask, `spelling.rs`
//! how things are written, `refusal.rs` how this wire says no, `answers.rs` answers in the order of their requests,
//! `conversation.rs` one connection, `device.rs` the one to the device that they share, `opening.rs` its handshake, `http.rs` the two HTTP servers beside it, `settings.rs` what may
//! be set.

mod answers;
mod conversation;
mod device;
mod http;
mod message;
mod methods;
mod opening;
mod refusal;
mod request;
mod settings;
mod spelling;

use std::sync::Arc;

use gatepost_identity::ServedTerminals;

use crate::listener::{Listener, Own, Place};
use crate::mount::Mount;
use crate::section::{BadSetting, Section, Weakness};
use crate::shared::SharedService;
use crate::trueconf::conversation::{POLICY, Terminal};
use crate::trueconf::device::Device;
use crate::trueconf::http::{Discovery, Files};
use crate::trueconf::opening::Opening;
use crate::trueconf::settings::Settings;
use crate::{Gate, Limits};

/// The gate's row in the table.
pub const GATE: Gate = Gate {
    name: "trueconf",
    spell: Some(spelling::spell),
    scopes: |_| Ok(Vec::new()),
    mounts: |section, _| Settings::read(section).map(|_| Vec::new()),
    rotates_refresh: |_| Ok(false),
    knows_tls: false,
    weakens,
    restarts: &["web", "http", "tls", "terminals"],
    own,
};

fn weakens(section: &Section) -> Result<Vec<Weakness>, BadSetting> {
    let terminals = Settings::read(section)?.terminals;
    let devices = terminals.iter().enumerate().filter_map(|(number, terminal)| {
        let device = terminal.device.as_ref()?;
        Weakness::of_service(format!("terminals[{number}].upstream.address"), &device.address)
    });
    Ok(devices.collect())
}

/// A client seen gives up on a port of five digits.
const PORTS_BELOW: u16 = 10_000;

/// Whether this gate takes a text for one of its tokens.
pub(crate) fn takes_for_a_token(text: &str) -> bool {
    spelling::is_token(text)
}

/// The two HTTP servers, then a control socket for each terminal.
fn own(section: &Section) -> Result<Option<Own>, BadSetting> {
    let settings = Arc::new(Settings::read(section)?);
    if settings.terminals.is_empty() {
        return Ok(None);
    }
    let encrypted = settings.tls;
    let listener = |name: String, place: Place, terminal, strangers| Listener {
        name,
        place,
        terminal,
        ports_below: Some(PORTS_BELOW),
        encrypted,
        strangers,
    };
    let mut listeners =
        vec![listener("web".to_owned(), settings.web, None, None), listener("http".to_owned(), settings.http, None, None)];
    let first = listeners.len();
    let control = |terminal: &settings::TerminalSettings| {
        let name = format!("control.{}", terminal.name.as_str());
        listener(name, terminal.control, Some(terminal.name.clone()), Some(settings.strangers))
    };
    listeners.extend(settings.terminals.iter().map(control));
    let devices = settings.terminals.iter().enumerate().filter_map(|(number, terminal)| {
        let device = terminal.device.as_ref()?;
        Some(SharedService {
            setting: format!("terminals[{number}].upstream"),
            listener: first + number,
            address: device.address.clone(),
            secret_file: device.secret_file.clone(),
            max_message: device.max_message,
            limits: Limits {
                ping_every: settings.ping_every,
                silence: (settings.silence, POLICY),
                answer_within: settings.answer_within,
                unsent: settings.unsent,
                due: None,
            },
            owner: Box::new(Device::default()),
        })
    });
    Ok(Some(Own {
        listeners,
        terminals: ServedTerminals {
            terminals: settings.terminals.iter().map(|terminal| (terminal.name.clone(), terminal.pin.clone())).collect(),
            lives: settings.lives,
            administrators_pin: settings.administrators_pin,
        },
        lock_out: settings.lock_out,
        shared_services: devices.collect(),
        mounts: Box::new(move |ports| {
            let port = |index: usize| ports.get(index).copied().unwrap_or_default();
            let http_port = port(1);
            let mut mounts = vec![(1, Mount::below("", 0, Files))];
            for (index, terminal) in (first..).zip(&settings.terminals) {
                mounts.push((0, Mount::new(Discovery::path(&terminal.name), Discovery::new(port(index), http_port))));
                let terminal =
                    Terminal { http_port, device: terminal.device.as_ref().map(|device| Arc::clone(&device.user_methods)) };
                mounts.push((index, Mount::below("", 0, Opening::new(Arc::clone(&settings), terminal))));
            }
            mounts
        }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_listens_until_a_terminal_is_named() {
        let own = |text: &str| (GATE.own)(&Section(text.parse().expect("TOML"))).expect("good settings");
        assert!(own("http_life = 60").is_none());
        let hall =
            own("terminals = [{ name = 'hall', pin = 'x', upstream = { address = 'ws://127.0.0.1:1/', secret_file = 'x' } }]")
                .expect("it listens");
        let names: Vec<_> = hall.listeners.iter().map(|listener| &*listener.name).collect();
        assert_eq!(names, ["web", "http", "control.hall"]);
        assert!(hall.listeners.iter().all(|listener| !listener.encrypted));
        let strangers: Vec<_> = hall.listeners.iter().map(|listener| listener.strangers.is_some()).collect();
        assert_eq!(strangers, [false, false, true]);
        let hidden = own("tls = true\nterminals = [{ name = 'hall' }]").expect("it listens");
        assert!(hidden.listeners.iter().all(|listener| listener.encrypted));
        assert_eq!(hall.listeners[2].terminal.as_ref().map(|name| name.as_str()), Some("hall"));
        let [service] = &*hall.shared_services else { panic!("one device") };
        assert_eq!((&*service.setting, service.listener, service.address.port_u16()), ("terminals[0].upstream", 2, Some(1)));
        assert_eq!(service.secret_file.as_deref(), Some(std::path::Path::new("x")));
        let at: Vec<_> = (hall.mounts)(&[8080, 8766, 8765]).into_iter().map(|(index, mount)| (index, mount.at)).collect();
        let below = crate::mount::At::Below(String::new());
        let config = crate::mount::At::Exactly("/public/hall/config.json".to_owned());
        assert_eq!(at, [(1, below.clone()), (0, config), (2, below)]);
    }
}
