-- The data of each tenant that the cache needs. A row is inserted when the tenant is first loaded.
-- Its home region may then be set by hand.
create table cache_tenants (
    tenant      text  primary key check (tenant ~ '^[a-z0-9-]{1,64}$'),
    -- The only region in which its regulated data may be cached. Null: any region.
    home_region text  check (home_region ~ '^[a-z0-9-]{1,32}$'),
    -- Mixed into the hashed tags and the encryption keys of all cached data of the tenant. Without
    -- it, no copy of these data can be found or decrypted, wherever the copy is. 244 random bits.
    secret      bytea not null default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
                check (octet_length(secret) = 32)
);
