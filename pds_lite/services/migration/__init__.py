"""Moving an account in, with the box doing the work: the job behind `pds-lite migrate`.

Read in this order: `job` (the steps, and the rules between them), `old_host` (how the old host is asked), `blob_copy`
(the ledger), `preflight` (what must be right before anything begins), `identity_step`, `runner` (the job as a task that
goes on without whoever began it), `from_files` (when there is no old host any more).
"""
