//! Which methods there are, what right each needs, and who answers it. A table; nothing else here decides any of that.
//!
//! What is not in it is the device's, where there is one.

use gatepost_identity::terminal::{TerminalRole, TerminalToken};

/// One method.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name on the wire.
    pub(super) name: &'static str,
    /// The role it needs; none: it may come before any authorisation.
    pub(super) needs: Option<TerminalRole>,
    /// What it does.
    pub(super) does: Does,
}

/// What a method does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Authorises, or steps down.
    Auth,
    /// Says which version of this wire the peer speaks.
    SetUsedApiVersion,
    /// Tells how the terminal is protected.
    GetAuthInfo,
    /// Changes that.
    SetAuthParams,
    /// Ends all tokens.
    ClearTokens,
    /// Tells a new token.
    Token(TerminalToken),
    /// Leaves the account at the conference server. The authorisation here stays.
    Logout,
    /// Tells what a device is and does; without one, that there is nothing to tell.
    Tell(Telling),
    /// Tells the settings of our own server for files.
    GetHttpServerSettings,
    /// Tells its state.
    GetHttpServerState,
    /// Would change our own server for files, which is the operator's to change.
    OurServer,
    /// Acts on the device.
    Device,
}

/// What is told of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// What it is doing.
    AppState,
    /// Its settings.
    Settings,
    /// What it is made of.
    SystemInfo,
    /// Its screens.
    MonitorsInfo,
}

const NOBODY: Option<TerminalRole> = None;
const USER: Option<TerminalRole> = Some(TerminalRole::User);
const ADMINISTRATOR: Option<TerminalRole> = Some(TerminalRole::Administrator);

/// All of them.
const ROWS: [Row; 23] = [
    Row { name: "auth", needs: NOBODY, does: Does::Auth },
    Row { name: "setUsedApiVersion", needs: NOBODY, does: Does::SetUsedApiVersion },
    Row { name: "getAuthInfo", needs: NOBODY, does: Does::GetAuthInfo },
    Row { name: "getTokenForHttpServer", needs: USER, does: Does::Token(TerminalToken::Http) },
    Row { name: "getOverlayHttpToken", needs: USER, does: Does::Token(TerminalToken::Overlay) },
    Row { name: "getAppState", needs: USER, does: Does::Tell(Telling::AppState) },
    Row { name: "getSettings", needs: USER, does: Does::Tell(Telling::Settings) },
    Row { name: "getSystemInfo", needs: USER, does: Does::Tell(Telling::SystemInfo) },
    Row { name: "getMonitorsInfo", needs: USER, does: Does::Tell(Telling::MonitorsInfo) },
    Row { name: "getHttpServerSettings", needs: USER, does: Does::GetHttpServerSettings },
    Row { name: "getHttpServerState", needs: USER, does: Does::GetHttpServerState },
    // A user may change the user's protection only; that is looked at with the parameters.
    Row { name: "setAuthParams", needs: USER, does: Does::SetAuthParams },
    Row { name: "clearTokens", needs: ADMINISTRATOR, does: Does::ClearTokens },
    Row { name: "logout", needs: ADMINISTRATOR, does: Does::Logout },
    Row { name: "setHttpServerSettings", needs: ADMINISTRATOR, does: Does::OurServer },
    Row { name: "startHttpServer", needs: ADMINISTRATOR, does: Does::OurServer },
    Row { name: "stopHttpServer", needs: ADMINISTRATOR, does: Does::OurServer },
    Row { name: "setSettings", needs: ADMINISTRATOR, does: Does::Device },
    Row { name: "login", needs: ADMINISTRATOR, does: Does::Device },
    Row { name: "connectToServer", needs: ADMINISTRATOR, does: Does::Device },
    Row { name: "connectToService", needs: ADMINISTRATOR, does: Does::Device },
    Row { name: "activateLicense", needs: ADMINISTRATOR, does: Does::Device },
    Row { name: "shutdown", needs: ADMINISTRATOR, does: Does::Device },
];

/// The method of that name, in exactly that case.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_needs_what_is_documented_and_stands_there_once() {
        let named = |needs| ROWS.iter().filter(|row| row.needs == needs).map(|row| row.name).collect::<Vec<_>>().join(" ");
        assert_eq!(named(NOBODY), "auth setUsedApiVersion getAuthInfo");
        assert_eq!(
            named(USER),
            "getTokenForHttpServer getOverlayHttpToken getAppState getSettings getSystemInfo getMonitorsInfo \
             getHttpServerSettings getHttpServerState setAuthParams"
        );
        let documented = "clearTokens setSettings setHttpServerSettings startHttpServer stopHttpServer login logout \
                          connectToServer connectToService activateLicense shutdown";
        for name in documented.split_whitespace() {
            assert_eq!(find(name).map(|row| row.needs), Some(ADMINISTRATOR), "{name}");
        }
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
        assert!(find("Auth").is_none(), "names have a case");
    }
}
