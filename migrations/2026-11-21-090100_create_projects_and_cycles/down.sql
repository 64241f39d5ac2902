DROP TABLE cycles;
DROP TABLE projects;
