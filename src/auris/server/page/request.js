// Requests to the server: with its key, and with the progress of an upload.

import { fromResponse, unreachable } from "./errors.js";

const ROOT = new URL("v1/", document.baseURI);
const KEY_ITEM = "auris-key";

/** The key that the server asks for; stored while the tab is open. */
export const key = {
  get: () => sessionStorage.getItem(KEY_ITEM) ?? "",
  /** Whether it can be sent in a header. */
  possible: (value) => /^[!-~]*$/.test(value),
  set: (value) => sessionStorage.setItem(KEY_ITEM, value),
};

/** The address of a path of the API. */
export function address(path) {
  return new URL(path, ROOT);
}

/** A response that is a success.
 *
 * @throws {PageError} the server refused, or cannot be reached
 */
export async function request(path, options = {}) {
  const known = key.get();
  const headers = known ? { Authorization: `Bearer ${known}` } : {};
  let response;
  try {
    response = await fetch(address(path), { ...options, headers, cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  if (!response.ok) throw await fromResponse(response, known !== "");
  return response;
}

/**
 * Send a form.
 *
 * @param {(share: number) => void} sent called with the share of the form that is sent
 * @param {(text: string) => void} received called with the text of the response so far, where
 *   the response is a success
 * @returns {Promise<Response>} a success
 * @throws {PageError} the server refused, or cannot be reached
 */
export function upload(path, form, { signal, sent, received = () => {} }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    // fetch does not report the progress of an upload.
    const call = new XMLHttpRequest();
    const known = key.get();
    call.open("POST", address(path));
    if (known) call.setRequestHeader("Authorization", `Bearer ${known}`);
    call.upload.onprogress = ({ loaded, total }) => sent(total ? loaded / total : 1);
    call.upload.onload = () => sent(1);
    call.onprogress = () => {
      if (call.status < 300) received(call.responseText);
    };
    call.onerror = () => reject(unreachable());
    call.onabort = () => reject(new DOMException("The request was aborted.", "AbortError"));
    call.onload = async () => {
      const headers = { "Retry-After": call.getResponseHeader("Retry-After") ?? "" };
      const response = new Response(call.responseText, { status: call.status, headers });
      if (response.ok) resolve(response);
      else reject(await fromResponse(response, known !== ""));
    };
    signal.addEventListener("abort", () => call.abort());
    call.send(form);
  });
}
