//! The checks of the doctor, as queries. Each returns a text for each fault, and nothing if all is
//! well.

use super::{
    Check,
    Severity::{Breaks, Refuses, Weakens},
};

const TRIGGERS: &str = "Run: select cache_generate_triggers('TABLE').";
const MIGRATE: &str = "Run the migrations of aside-cache again in a new database, or restore what was changed.";
const GRANT: &str = "Run as the owner: select cache_grant('ROLE').";

/// All checks, in the order in which they are reported.
pub(super) const CHECKS: &[Check] = &[
    // The server.
    Check {
        name: "version",
        severity: Refuses,
        sql: "select 'Postgres is ' || current_setting('server_version') where current_setting('server_version_num')::int < 150000",
        advice: "Use Postgres 15 or newer.",
    },
    Check {
        name: "standby",
        severity: Breaks,
        sql: "select 'the server is a standby' where pg_is_in_recovery()",
        advice: "Let the URL lead to the primary.",
    },
    Check {
        name: "encoding",
        severity: Refuses,
        sql: "select 'the encoding of the database is ' || pg_encoding_to_char(encoding) from pg_database
            where datname = current_database() and pg_encoding_to_char(encoding) <> 'UTF8'",
        advice: "Create the database with the encoding UTF8.",
    },
    Check {
        name: "fsync",
        severity: Breaks,
        sql: "select 'fsync is off' where current_setting('fsync') = 'off'",
        advice: "Set fsync = on: without it, a crash of the machine loses acknowledged writes.",
    },
    Check {
        name: "full-page-writes",
        severity: Breaks,
        sql: "select 'full_page_writes is off' where current_setting('full_page_writes') = 'off'",
        advice: "Set full_page_writes = on: without it, a crash of the machine damages tables.",
    },
    Check {
        name: "synchronous-commit",
        severity: Weakens,
        sql: "select 'synchronous_commit is off' where current_setting('synchronous_commit') = 'off'",
        advice: "Set synchronous_commit = on for the role: without it, a crash loses acknowledged writes.",
    },
    Check {
        name: "asynchronous-standbys",
        severity: Weakens,
        sql: "select 'standbys follow asynchronously' where current_setting('synchronous_standby_names') = ''
            and exists (select from pg_stat_replication where application_name <> 'pg_basebackup')",
        advice: "Set synchronous_standby_names, or accept that a failover loses the last acknowledged writes.",
    },
    // The session of the service.
    Check {
        name: "read-only",
        severity: Weakens,
        sql: "select 'transactions are read-only by default' where current_setting('default_transaction_read_only') = 'on'",
        advice: "Set default_transaction_read_only = off for the role and the database.",
    },
    Check {
        name: "isolation",
        severity: Weakens,
        sql: "select 'the default isolation level is ' || current_setting('default_transaction_isolation')
            where current_setting('default_transaction_isolation') <> 'read committed'",
        advice: "Set default_transaction_isolation = 'read committed' for the role: programs beside the service then conflict less.",
    },
    Check {
        name: "replication-role",
        severity: Refuses,
        sql: "select 'session_replication_role is ' || current_setting('session_replication_role')
            where current_setting('session_replication_role') <> 'origin'",
        advice: "Reset session_replication_role for the role and the database.",
    },
    Check {
        name: "statement-timeout",
        severity: Weakens,
        sql: "select 'statements end after ' || setting || ' ms' from pg_settings
            where name = 'statement_timeout' and setting::int between 1 and 999",
        advice: "Give the role a statement_timeout of a second or more, or none: migrations need time.",
    },
    Check {
        name: "string-literals",
        severity: Refuses,
        sql: "select 'standard_conforming_strings is off' where current_setting('standard_conforming_strings') = 'off'",
        advice: "Set standard_conforming_strings = on for the role and the database.",
    },
    Check {
        name: "search-path",
        severity: Refuses,
        sql: "select 'the ledger is in schema ' || nspname || ', but ' || coalesce(current_schema(), 'none') || ' is the first of the role'
            from pg_class join pg_namespace on pg_namespace.oid = relnamespace
            where pg_class.oid = 'cache_ledger'::regclass and nspname is distinct from current_schema()",
        advice: "Set search_path for the role, with the schema of the ledger first.",
    },
    // Capacity and upkeep.
    Check {
        name: "connection-limit",
        severity: Weakens,
        sql: "select 'at most ' || least(nullif(rolconnlimit, -1), nullif(datconnlimit, -1)) || ' connections are allowed'
            from pg_roles, pg_database where rolname = current_user and datname = current_database()
                and least(nullif(rolconnlimit, -1), nullif(datconnlimit, -1)) < 10",
        advice: "Raise the connection limit of the role and of the database above DATABASE_CONNECTIONS and two more for each instance.",
    },
    Check {
        name: "autovacuum",
        severity: Weakens,
        sql: "select 'autovacuum is off' where current_setting('autovacuum') = 'off'
            union all
            select 'autovacuum is off for ' || relname from pg_class
            where relname in ('cache_ledger', 'cache_checkpoints') and 'autovacuum_enabled=false' = any (reloptions)",
        advice: "Switch autovacuum on: the ledger changes with each write.",
    },
    Check {
        name: "old-transactions",
        severity: Weakens,
        sql: "select 'process ' || pid || ' has been in a transaction since ' || date_trunc('second', xact_start) from pg_stat_activity
            where xact_start < now() - interval '10 minutes' and backend_type = 'client backend' and pid <> pg_backend_pid()",
        advice: "End it (pg_terminate_backend): its locks stop writers, and vacuum can't remove what it may see.",
    },
    Check {
        name: "prepared-transactions",
        severity: Weakens,
        sql: "select 'transaction ' || gid || ' has been prepared since ' || date_trunc('second', prepared) from pg_prepared_xacts
            where database = current_database() and prepared < now() - interval '1 minute'",
        advice: "Commit or roll back the prepared transaction: it holds its locks for ever.",
    },
    // The ledger.
    Check {
        name: "ledger-durability",
        severity: Refuses,
        sql: "select relname || ' is unlogged' from pg_class where oid in ('cache_ledger'::regclass, 'cache_version'::regclass)
            and relpersistence <> 'p'",
        advice: "Run: alter table cache_ledger set logged; alter sequence cache_version set logged.",
    },
    Check {
        name: "ledger-key",
        severity: Refuses,
        sql: "select 'the ledger has no key on tag' where not exists (select from pg_index
            where indrelid = 'cache_ledger'::regclass and indisunique and indisvalid and indnatts = 1
                and pg_get_indexdef(indexrelid, 1, true) = 'tag' and indpred is null)",
        advice: "Run: alter table cache_ledger add primary key (tag).",
    },
    Check {
        name: "ledger-index",
        severity: Weakens,
        sql: "select 'the ledger has no valid index on xid' where not exists (select from pg_index
            where indrelid = 'cache_ledger'::regclass and indisvalid and pg_get_indexdef(indexrelid, 1, true) = 'xid' and indpred is null)",
        advice: "Run: create index on cache_ledger (xid). Without it, each poll reads the whole ledger.",
    },
    Check {
        name: "ledger-rules",
        severity: Refuses,
        sql: "select 'the ledger has row-level security' from pg_class where oid = 'cache_ledger'::regclass and relrowsecurity
            union all
            select 'the ledger has the rule ' || rulename from pg_rewrite where ev_class = 'cache_ledger'::regclass",
        advice: "Disable row-level security on the ledger, and drop its rules: they hide or change versions.",
    },
    Check {
        name: "ledger-triggers",
        severity: Refuses,
        sql: "select 'the trigger ' || wanted || ' of the ledger is missing or disabled' from unnest(array['begins_epoch', 'only_raises']) as wanted
            where not exists (select from pg_trigger where tgrelid = 'cache_ledger'::regclass and tgname = wanted and tgenabled = 'A')",
        advice: "Run: alter table cache_ledger enable always trigger NAME; or create it as in 0001_cache.sql.",
    },
    Check {
        name: "sequence-behind",
        severity: Breaks,
        sql: "select 'the sequence is at ' || last_value || ', but the ledger has version ' || highest
            from cache_version, (select max(version) as highest from cache_ledger) as ledger where highest > last_value",
        advice: "Run: select setval('cache_version', (select max(version) + 1000000 from cache_ledger)).",
    },
    Check {
        name: "sequence-form",
        severity: Refuses,
        sql: "select 'the sequence of versions does not only rise' from pg_sequence where seqrelid = 'cache_version'::regclass
            and (seqincrement < 1 or seqcycle or seqmax < 9223372036854775807)",
        advice: "Run: alter sequence cache_version increment 1 no cycle no maxvalue.",
    },
    Check {
        name: "versions-ahead",
        severity: Weakens,
        sql: "select count(*) || ' rows of the ledger are of the future' from cache_ledger
            where at > clock_timestamp() + interval '1 minute' having count(*) > 0
            union all
            select count(*) || ' checkpoints are of the future' from cache_checkpoints
            where taken_at > clock_timestamp() + interval '1 minute' having count(*) > 0",
        advice: "Check the clock of the server. Then run: update cache_ledger set at = now() where at > now(); delete from cache_checkpoints where taken_at > now().",
    },
    Check {
        name: "epochs",
        severity: Weakens,
        sql: "select count(*) || ' rows name an epoch' from cache_epochs having count(*) > 1",
        advice: "The next instance that starts repairs it; the tiers are not used meanwhile.",
    },
    // Functions and rights.
    Check {
        name: "functions",
        severity: Refuses,
        sql: "select wanted || ' is missing' from unnest(array['cache_raise(text[])', 'cache_epoch()', 'cache_bounded_tags(text[])',
            'cache_generate_triggers(regclass)', 'cache_lift_versions(bigint)', 'cache_prune(interval)']) as wanted where to_regprocedure(wanted) is null",
        advice: MIGRATE,
    },
    Check {
        name: "search-paths",
        severity: Refuses,
        sql: "select proname || ' has no fixed search path' from pg_proc
            where pronamespace = current_schema()::regnamespace and proname like 'cache\\_%' and prosqlbody is null and probin is null
                and not exists (select from unnest(proconfig) as setting where setting like 'search_path=%')",
        advice: "Run: select cache_fix_search_paths().",
    },
    Check {
        name: "definer",
        severity: Refuses,
        sql: "select proname || ' runs with the rights of its caller' from pg_proc
            where oid in (to_regprocedure('cache_raise(text[])'), to_regprocedure('cache_ledger_truncated()'),
                to_regprocedure('cache_lift_versions(bigint)'), to_regprocedure('cache_prune(interval)')) and not prosecdef",
        advice: "Run: alter function NAME security definer. It needs rights that its callers don't have.",
    },
    Check {
        name: "definer-rights",
        severity: Refuses,
        sql: "select 'the owner of cache_raise may not change the ledger' from pg_proc
            where oid = to_regprocedure('cache_raise(text[])')
                and not (has_table_privilege(proowner, 'cache_ledger', 'insert') and has_table_privilege(proowner, 'cache_ledger', 'update')
                    and has_sequence_privilege(proowner, 'cache_version', 'usage'))",
        advice: "Give the function back to the owner of the ledger: alter function cache_raise(text[]) owner to OWNER.",
    },
    Check {
        name: "callers",
        severity: Breaks,
        sql: "select 'cache_raise can''t be executed by everyone who changes tables' from pg_proc
            where oid = to_regprocedure('cache_raise(text[])') and not has_function_privilege(current_user, oid, 'execute')",
        advice: "Run: grant execute on function cache_raise(text[]) to ROLE.",
    },
    Check {
        name: "rights",
        severity: Refuses,
        sql: "select 'the role ' || current_user || ' lacks ' || wanted || ' on ' || relation
            from (values ('cache_ledger', 'select'), ('cache_ledger', 'insert'), ('cache_ledger', 'update'),
                ('cache_epochs', 'select'), ('cache_epochs', 'insert'), ('cache_epochs', 'update'), ('cache_epochs', 'delete'),
                ('cache_checkpoints', 'select'), ('cache_checkpoints', 'insert'), ('cache_checkpoints', 'delete'),
                ('cache_tenants', 'select'), ('cache_tenants', 'insert'), ('cache_tracked', 'select')) as needed (relation, wanted)
            where not has_table_privilege(relation, wanted)
            union all
            select 'the role ' || current_user || ' lacks ' || wanted || ' on ' || sequence
            from (values ('cache_version', 'usage'), ('cache_version', 'select'),
                ('cache_address_checked', 'select'), ('cache_address_checked', 'update')) as needed (sequence, wanted)
            where not has_sequence_privilege(sequence, wanted)",
        advice: GRANT,
    },
    Check {
        name: "rights-to-lower",
        severity: Weakens,
        sql: "select 'the role ' || current_user || ' may delete rows of the ledger or set its sequence back' from pg_roles
            where rolname = current_user and not rolsuper and (has_table_privilege('cache_ledger', 'delete')
                or has_table_privilege('cache_ledger', 'truncate') or has_sequence_privilege('cache_version', 'update'))",
        advice: "Revoke it, or run the service as a role of its own: the functions that cache_grant lists do what is needed.",
    },
    Check {
        name: "public-rights",
        severity: Weakens,
        sql: "select 'everyone may ' || lower(privilege_type) || ' rows of the ledger'
            from pg_class, aclexplode(relacl) where oid = 'cache_ledger'::regclass and grantee = 0
                and privilege_type in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')",
        advice: "Run: revoke all on cache_ledger from public. Versions are raised by cache_raise.",
    },
    // Tracked tables.
    Check {
        name: "triggers-missing",
        severity: Breaks,
        sql: "select tracked || ' lacks the trigger invalidates_' || event
            from cache_tracked join pg_class on pg_class.oid = tracked,
                unnest(array['inserted', 'updated', 'deleted', 'truncated', 'replicated']) as event
            where not exists (select from pg_trigger where tgrelid = tracked and tgname = 'invalidates_' || event)",
        advice: TRIGGERS,
    },
    Check {
        name: "triggers-disabled",
        severity: Breaks,
        sql: "select tgrelid::regclass || ': the trigger ' || tgname || case tgenabled when 'D' then ' is disabled' else ' fires in some sessions only' end
            from pg_trigger join pg_proc on pg_proc.oid = tgfoid
            where not tgisinternal and proname like 'cache\\_%' and tgrelid <> 'cache_ledger'::regclass
                and pronamespace = current_schema()::regnamespace
                and tgenabled <> 'A' and not (tgenabled = 'R' and tgname = 'invalidates_replicated')",
        advice: TRIGGERS,
    },
    Check {
        name: "partitions",
        severity: Breaks,
        sql: "with recursive members as (
                select tracked::oid as root, tracked::oid as relation from cache_tracked
                union select root, inhrelid from pg_inherits join members on inhparent = relation
            )
            select relation::regclass || ', a partition of ' || root::regclass || ', lacks triggers' from members
            join pg_class on pg_class.oid = relation
            where relation <> root and relkind in ('r', 'p') and relation not in (select tracked from cache_tracked)
                and not exists (select from pg_trigger where tgrelid = relation and tgname = 'invalidates_updated')",
        advice: "Run: select cache_generate_triggers('PARENT') after a partition was created or attached.",
    },
    Check {
        name: "tracked-tables",
        severity: Weakens,
        sql: "select 'a declaration of cache_track belongs to a table that is gone' from cache_tracked
            where not exists (select from pg_class where oid = tracked)",
        advice: "Run: select cache_track(...) for the table that took its place.",
    },
    Check {
        name: "tracked-functions",
        severity: Refuses,
        sql: "select tracked || ': its trigger function ' || generated || ' is missing' from cache_tracked
            where to_regprocedure(format('%I()', generated)) is null",
        advice: TRIGGERS,
    },
    Check {
        name: "changed-functions",
        severity: Refuses,
        sql: "select proname || ' runs with the rights of its caller' from pg_proc
            join cache_tracked on proname = generated and pronamespace = current_schema()::regnamespace where not prosecdef",
        advice: TRIGGERS,
    },
    Check {
        name: "tracked-rules",
        severity: Breaks,
        sql: "select tracked || ' has the rule ' || rulename || ', which can replace a change' from pg_rewrite
            join cache_tracked on ev_class = tracked where is_instead",
        advice: "Drop the rule: triggers don't see a change that a rule replaces.",
    },
    Check {
        name: "superuser",
        severity: Weakens,
        sql: "select 'the role ' || current_user || ' is a superuser' from pg_roles where rolname = current_user and rolsuper",
        advice: "Run the service as a role of its own, which owns nothing (docs/production.md).",
    },
];
