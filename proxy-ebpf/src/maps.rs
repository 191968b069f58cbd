//! Every map, its size and why.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::{bpf_map_update_elem, bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::btf_map;
use proxy_common::{Counter, Endpoint, Flow, Ip, NamespaceNumber, Origin, Refused, Target, Wanted};

/// Whether the kernel has `bpf_set_retval` (5.18); set by the loader. Without it a
/// refused `connect` fails with EPERM.
#[unsafe(no_mangle)]
pub static HAVE_SET_RETVAL: Global<u8> = Global::new(1);

/// Whether decisions may be reported at all; set by the loader. Off, the verifier removes that code.
#[unsafe(no_mangle)]
pub static MAY_TELL: Global<u8> = Global::new(0);

#[inline(always)]
pub fn tells() -> bool {
    MAY_TELL.load() != 0 && TELL.get(0).is_some_and(|tell| *tell != 0)
}

/// Whether somebody reads [`REFUSALS`]; set by the loader.
#[unsafe(no_mangle)]
pub static REPORT_REFUSALS: Global<u8> = Global::new(0);

/// Virtual IP → how many of its ports are served: two of each destination where both IP
/// versions are in use, and there are 20,000 target ports. User space alone writes it, so
/// entries may be allocated one by one.
#[btf_map]
pub static VIRTUAL_IPS: HashMap<Ip, u32, 65_536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Virtual IP and port → the proxy's listener for it, and whom it is for. As many as
/// there are target ports for destinations, and then some.
#[btf_map]
pub static TARGETS: HashMap<Endpoint, Target, 65_536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Id of a pod's cgroup → namespace of the pod. A node has some hundred.
#[btf_map]
pub static CALLERS: HashMap<u64, NamespaceNumber, 65_536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// What was refused to whom. Room for some 1,300 reports that nobody has read yet; the
/// kernel wants a power of two that is a multiple of the page size, which may be 64 KiB.
#[btf_map]
pub static REFUSALS: RingBuf<Refused, 65_536> = RingBuf::new();

/// On the connecting socket.
#[btf_map]
pub static WANTED: SkStorage<Wanted> = SkStorage::new();

/// Handshakes under way. A plain hash: an LRU map drops live entries without a word.
#[btf_map]
pub static FLOWS: HashMap<Flow, Origin, 16_384> = HashMap::new();

/// On the accepted socket; the proxy reads it by file descriptor.
#[btf_map]
pub static ORIGINS: SkStorage<Origin> = SkStorage::new();

/// On the proxy's own outbound sockets, set by file descriptor: nobody without the
/// map can exempt himself.
#[btf_map]
pub static EXEMPT: SkStorage<u32> = SkStorage::new();

/// Whether decisions are reported now: user space follows its log level.
#[btf_map]
pub static TELL: Array<u32, 1> = Array::new();

#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { Counter::SLOTS }> = PerCpuArray::new();

#[inline(always)]
pub fn count(counter: Counter) {
    add(counter.index());
}

/// By the family of the address that it is about.
#[inline(always)]
pub fn count_for(ip: &Ip, counter: Counter) {
    add(counter.slot(ip.is_v4()));
}

#[inline(always)]
fn add(slot: u32) {
    if let Some(slot) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: this CPU's slot of the map. A program that interrupts this one may
        // lose a count; an atomic addition would cost more than it is worth here.
        unsafe { *slot += 1 };
    }
}

/// The record of `socket`, if it has one.
///
/// # Safety
/// `socket` is null-checked and comes from the context.
#[inline(always)]
pub unsafe fn stored<T>(map: &'static SkStorage<T>, socket: *mut bpf_sock) -> Option<*mut T> {
    let value = unsafe { bpf_sk_storage_get(pointer(map), socket.cast(), ptr::null_mut(), 0) };
    (!value.is_null()).then_some(value.cast())
}

/// Stores a copy of `value` with `socket`, in place of what was there.
///
/// # Safety
/// As for [`stored`]; `value` points to a `T` on the stack or in a map.
#[inline(always)]
pub unsafe fn store<T>(map: &'static SkStorage<T>, socket: *mut bpf_sock, value: *const T) -> bool {
    const CREATE: u64 = BPF_SK_STORAGE_GET_F_CREATE as u64;
    let map_ptr = pointer(map);
    unsafe {
        // Creating keeps a value that exists; the kernel copies only into a new one.
        if stored(map, socket).is_some() {
            bpf_sk_storage_delete(map_ptr, socket.cast());
        }
        let stored = bpf_sk_storage_get(map_ptr, socket.cast(), value.cast_mut().cast(), CREATE);
        !stored.is_null()
    }
}

/// Remembers a handshake.
///
/// # Safety
/// `origin` points into a map.
#[inline(always)]
pub unsafe fn begin_flow(flow: &Flow, origin: *const Origin) -> bool {
    let map = (&raw const FLOWS).cast_mut().cast();
    unsafe { bpf_map_update_elem(map, ptr::from_ref(flow).cast(), origin.cast(), 0) == 0 }
}

/// `SkStorage` offers its operations to `sock_addr` programs only.
#[inline(always)]
fn pointer<T>(map: &'static SkStorage<T>) -> *mut c_void {
    ptr::from_ref(map).cast_mut().cast()
}
