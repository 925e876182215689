//! Sends admin requests that `rdkafka` does not wrap. Only the files that use this module, and
//! `partitioner`, call librdkafka themselves.
//!
//! Leaves the request and the reading of its answer to these files.
#![allow(unsafe_code, reason = "the requests are only there as functions of the C library")]

use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

/// Room for librdkafka's message about a timeout that it does not accept.
const TEXT_BYTES_MAX: usize = 128;

/// An object of librdkafka that is destroyed on drop.
pub(super) struct LibrdkafkaHandle<T> {
    pub(super) it: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Drop for LibrdkafkaHandle<T> {
    fn drop(&mut self) {
        // SAFETY: `destroy` belongs to the type of `it`. This value owns `it`, and nothing else
        // destroys it.
        unsafe { (self.destroy)(self.it) }
    }
}

/// Owns an object of librdkafka. Fails if the object was not created.
pub(super) fn owned<T>(
    it: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
) -> Result<LibrdkafkaHandle<T>, RDKafkaErrorCode> {
    if it.is_null() { Err(RDKafkaErrorCode::Fail) } else { Ok(LibrdkafkaHandle { it, destroy }) }
}

/// Sends an admin request by `send`, and waits for the event with its answer. Blocks.
pub(super) fn ask<C: ClientContext>(
    client: &Client<C>,
    operation: sys::rd_kafka_admin_op_t,
    within: Duration,
    send: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<LibrdkafkaHandle<sys::rd_kafka_event_t>, RDKafkaErrorCode> {
    let timeout_ms = c_int::try_from(within.as_millis()).unwrap_or(c_int::MAX);
    let mut text: [c_char; TEXT_BYTES_MAX] = [0; TEXT_BYTES_MAX];
    let native = client.native_ptr();
    // SAFETY: the reference keeps the client alive during the call. Every object is checked before
    // its use and outlives its uses, because guards are dropped in reverse order.
    unsafe {
        let options = owned(
            sys::rd_kafka_AdminOptions_new(native, operation),
            sys::rd_kafka_AdminOptions_destroy,
        )?;
        check(sys::rd_kafka_AdminOptions_set_request_timeout(
            options.it,
            timeout_ms,
            text.as_mut_ptr(),
            text.len(),
        ))?;
        let queue = owned(sys::rd_kafka_queue_new(native), sys::rd_kafka_queue_destroy)?;
        send(options.it.cast_const(), queue.it);
        let event = sys::rd_kafka_queue_poll(queue.it, timeout_ms);
        let event = owned(event, sys::rd_kafka_event_destroy)
            .map_err(|_| RDKafkaErrorCode::OperationTimedOut)?;
        check(sys::rd_kafka_event_error(event.it))?;
        Ok(event)
    }
}

/// Fails if `code` is an error.
pub(super) fn check(code: sys::rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(code),
    }
}

/// Returns the only description in an answer. Fails if there is none, or more than one.
///
/// # Safety
///
/// `result` is null, or lives during the call and is the answer that `list` reads.
pub(super) unsafe fn only<R, T>(
    result: *const R,
    list: unsafe extern "C" fn(*const R, *mut usize) -> *mut *const T,
) -> Result<*const T, RDKafkaErrorCode> {
    if result.is_null() {
        return Err(RDKafkaErrorCode::Fail);
    }
    let mut count = 0;
    // SAFETY: as the caller promises. A list is read only if it has an element.
    unsafe {
        let found = list(result, &mut count);
        if found.is_null() || count != 1 { Err(RDKafkaErrorCode::Fail) } else { Ok(*found) }
    }
}

/// Copies a text of librdkafka. Empty if there is none.
///
/// # Safety
///
/// `text` is null, or ends with a zero byte and lives during the call.
pub(super) unsafe fn copied(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
