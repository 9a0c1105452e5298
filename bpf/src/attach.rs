//! Puts the program on interfaces and takes it off again.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use crate::attached_program::{attached_program, detach_program};
use crate::error::{SteeringError, attach_error};
use crate::link::XdpLink;
use crate::mode::{AttachedMode, OnCrash, XdpMode};
use crate::pin::{DEATH, DEATH_POLL, Pin};
use crate::steering::{PortConfig, Steering};

/// The program's name in the kernel, by which another samepath is known.
const PROGRAM_NAME: &str = "samepath_steer";

/// The program on one interface.
pub(crate) struct Attachment {
    port: PortConfig,
    mode: AttachedMode,
    native_refused: Option<SteeringError>,
    link: XdpLink,
    pin: Option<Pin>,
}

/// A link with the mode it has and, after a fallback, why it is not native.
type Linked = (XdpLink, AttachedMode, Option<SteeringError>);

impl Steering {
    /// Attaches the program to an interface and says in which mode; [`Steering::native_refused`] tells why
    /// [`XdpMode::BestEffort`] did not become native.
    ///
    /// A program of somebody else's is left alone unless `replace` is set and no bpf_link holds it. What a
    /// dead samepath left pinned is taken over. Must run in the interface's network namespace.
    pub fn attach(
        &mut self,
        port: PortConfig,
        mode: XdpMode,
        replace: bool,
    ) -> Result<AttachedMode, SteeringError> {
        let interface = port.ifname.as_str();
        if index_of(interface) != Some(port.ifindex) {
            return Err(SteeringError::UnknownInterface { interface: interface.to_owned() });
        }
        if self.attachments.iter().any(|known| known.port.ifindex == port.ifindex) {
            let rule = "the program is attached there already";
            return Err(SteeringError::Port { interface: interface.to_owned(), index: port.index, rule });
        }
        // Known before attached, so that no frame counts as `pass_unknown_interface`.
        self.set_port(&port)?;
        let linked = self.link_up(&port, mode, replace);
        let ((link, got, native_refused), pin) = match linked {
            Ok(linked) => linked,
            Err(error) => {
                self.forget_port(port.ifindex);
                return Err(error);
            }
        };
        self.attachments.push(Attachment { port, mode: got, native_refused, link, pin });
        Ok(got)
    }

    /// Why port `index` is not native although [`XdpMode::BestEffort`] tried.
    pub fn native_refused(&self, index: u8) -> Option<&SteeringError> {
        self.attachments.iter().find(|known| known.port.index == index)?.native_refused.as_ref()
    }

    /// The interfaces the program is attached to and how.
    pub fn attached(&self) -> impl Iterator<Item = (&PortConfig, AttachedMode)> {
        self.attachments.iter().map(|known| (&known.port, known.mode))
    }

    /// Takes the program off every interface and removes its pins. Goes on after an error and returns the
    /// first.
    pub fn detach(&mut self) -> Result<(), SteeringError> {
        let mut result = Ok(());
        for attachment in std::mem::take(&mut self.attachments) {
            let ifindex = attachment.port.ifindex;
            result = result.and(attachment.take_off());
            self.forget_port(ifindex);
        }
        result
    }

    fn link_up(
        &self,
        port: &PortConfig,
        mode: XdpMode,
        replace: bool,
    ) -> Result<(Linked, Option<Pin>), SteeringError> {
        let PortConfig { ifname, ifindex, .. } = port;
        let pin = match self.on_crash {
            OnCrash::Closed => Some(Pin::claim(ifname, *ifindex)?),
            OnCrash::Open => Pin::claim_existing(ifname, *ifindex)?,
        };
        let linked = self.link_with(port, mode, replace, pin.as_ref());
        match (linked, pin, self.on_crash) {
            (Ok(linked), Some(pin), OnCrash::Closed) => Ok((linked, Some(pin))),
            (Ok(linked), Some(pin), OnCrash::Open) => pin.remove().map(|()| (linked, None)),
            (Ok(linked), None, _) => Ok((linked, None)),
            (Err(error), Some(pin), _) => pin.remove().and(Err(error)),
            (Err(error), None, _) => Err(error),
        }
    }

    /// Takes over what a dead samepath left pinned, else attaches anew.
    fn link_with(
        &self,
        port: &PortConfig,
        mode: XdpMode,
        replace: bool,
        pin: Option<&Pin>,
    ) -> Result<Linked, SteeringError> {
        let PortConfig { ifname, ifindex, .. } = port;
        if let Some(pin) = pin {
            if let Some(link) = pin.leftover(*ifindex) {
                if let Some(got) = self.take_over(&link, *ifindex, mode) {
                    return Ok((link, got, None));
                }
                link.detach().map_err(|source| attach_error(ifname, AttachedMode::Native, source))?;
            }
            pin.clear()?;
        }
        make_room(ifname, *ifindex, replace)?;
        let linked = self.link_anew(port, mode)?;
        if let (Some(pin), OnCrash::Closed) = (pin, self.on_crash) {
            pin.put(&linked.0)?;
        }
        Ok(linked)
    }

    /// Puts our program in the place of a dead process's without a gap, if its mode is the one wanted.
    fn take_over(&self, link: &XdpLink, ifindex: u32, mode: XdpMode) -> Option<AttachedMode> {
        let present = attached_program(ifindex).ok()??.mode;
        let wanted = match mode {
            XdpMode::Generic => AttachedMode::Generic,
            XdpMode::BestEffort | XdpMode::Native | XdpMode::NativeZerocopy => AttachedMode::Native,
        };
        let program = self.skeleton.progs.samepath_steer.as_fd();
        (present == wanted && link.replace_program(program).is_ok()).then_some(present)
    }

    fn link_anew(&self, port: &PortConfig, mode: XdpMode) -> Result<Linked, SteeringError> {
        let link = |wanted: AttachedMode| {
            let program = self.skeleton.progs.samepath_steer.as_fd();
            XdpLink::create(program, port.ifindex, wanted.flags())
                .map_err(|source| attach_error(&port.ifname, wanted, source))
        };
        match mode {
            XdpMode::Generic => Ok((link(AttachedMode::Generic)?, AttachedMode::Generic, None)),
            XdpMode::Native | XdpMode::NativeZerocopy => {
                Ok((link(AttachedMode::Native)?, AttachedMode::Native, None))
            }
            XdpMode::BestEffort => match link(AttachedMode::Native) {
                Ok(native) => Ok((native, AttachedMode::Native, None)),
                Err(refused) => Ok((link(AttachedMode::Generic)?, AttachedMode::Generic, Some(refused))),
            },
        }
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        let has_crashed = thread::panicking();
        if !(has_crashed && self.on_crash == OnCrash::Closed) {
            // Nobody is left to be told; the links go with their descriptors at the latest.
            let _ = self.detach();
        }
    }
}

impl Attachment {
    fn take_off(self) -> Result<(), SteeringError> {
        let Self { port, mode, link, pin, .. } = self;
        // The pin first: a link that is only detached would look like a dead samepath's.
        let unpinned = pin.map_or(Ok(()), Pin::remove);
        let detached = match link.detach() {
            // The interface went away, and the attachment with it.
            Err(source) if source.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
            result => result.map_err(|source| attach_error(&port.ifname, mode, source)),
        };
        unpinned.and(detached)
    }
}

/// Makes sure no XDP program is on the interface, or says whose is.
fn make_room(interface: &str, ifindex: u32, replace: bool) -> Result<(), SteeringError> {
    let failed = |source| attach_error(interface, AttachedMode::Native, source);
    let deadline = Instant::now() + DEATH;
    while let Some(program) = attached_program(ifindex).map_err(failed)? {
        let obstacle = match (program.name.as_deref(), program.link) {
            (Some(PROGRAM_NAME), Some(_)) => {
                SteeringError::AnotherSamepath { interface: interface.to_owned() }
            }
            (Some(_), Some(_)) => {
                return Err(SteeringError::ForeignLink { interface: interface.to_owned(), program });
            }
            (_, None) if replace => match detach_program(ifindex, &program) {
                Ok(()) => continue,
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    SteeringError::ForeignLink { interface: interface.to_owned(), program }
                }
                Err(source) => return Err(attach_error(interface, program.mode, source)),
            },
            (Some(_), None) => {
                return Err(SteeringError::Foreign { interface: interface.to_owned(), program });
            }
            (None, _) => SteeringError::Foreign { interface: interface.to_owned(), program },
        };
        // Perhaps a samepath's that is just dying: nothing tells without a name.
        if Instant::now() >= deadline {
            return Err(obstacle);
        }
        thread::sleep(DEATH_POLL);
    }
    Ok(())
}

/// The number of the interface called `name` in this network namespace.
fn index_of(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}
