-- What the cache must know of each tenant. A row is made when the tenant is first loaded; its home may then be set by hand.
create table cache_tenants (
    tenant      text  primary key check (tenant ~ '^[a-z0-9-]{1,64}$'),
    -- The only region in which its regulated data may be cached; null: any.
    home_region text  check (home_region ~ '^[a-z0-9-]{1,32}$'),
    -- Mixed into the names and keys of all that is cached of the tenant: without it nothing of that can be found or opened again, wherever
    -- copies of it are. 244 random bits.
    secret      bytea not null default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
                check (octet_length(secret) = 32)
);
