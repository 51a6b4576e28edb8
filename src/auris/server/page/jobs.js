// The job of this tab: it is remembered, so that a reload shows its text again.

import * as api from "./api.js";

const ITEM = "auris-job";

/** The job that is remembered, {id, name, size, requested}; null without one. */
export function remembered() {
  const job = JSON.parse(sessionStorage.getItem(ITEM) ?? "null");
  // Pages of earlier versions remembered other fields.
  return job?.requested ? job : null;
}

/** Remember a job. */
export function remember(job) {
  sessionStorage.setItem(ITEM, JSON.stringify(job));
}

/** Remove the job that is remembered from the tab and from the server; only job `id`, where given. */
export function discard(id = null) {
  const job = remembered();
  if (!job || (id && job.id !== id)) return;
  sessionStorage.removeItem(ITEM);
  // One that the server cannot remove now is removed when it expires.
  api.deleteJob(job.id).catch(() => {});
}
