DROP TABLE store_outages;
